#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-only
# It imports nothing of Ansible but module_utils/basic.py, which is under the BSD licence and goes with this one.
"""A file of the policy for IOMMU groups, and the groups as it wants them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iommu_policy
short_description: A file of the policy for IOMMU groups
version_added: "0.1.0"
description:
  - Puts a file into C(/etc/iommuctl/policy.d), or removes it, and makes the groups of the machine as the whole policy wants
    them if O(apply) says so.
  - A file is checked by C(iommuctl policy check) before it is put in place, and replaces the old one whole.
  - With O(apply), C(iommuctl policy plan) is asked first, about the policy as it would be with the file. What would be refused
    (RV(exit_code) is 3, or 4 if only in part) fails before anything is changed.
  - If it fails later (a disk was mounted meanwhile, the kernel took too long), the file stays. It is what was asked for, and
    what the machine takes at the next boot.
author:
  - The iommuctl developers (!UNKNOWN)
options:
  name:
    description:
      - The name of the file, such as C(50-site); V(.yaml) may be left out.
      - Files are read in the order of their names, and the first rule that matches a device decides for it.
    type: str
    required: true
  content:
    description:
      - The policy, as YAML text or as a dictionary.
      - A dictionary is written with a comment that says where it is from.
    type: raw
  src:
    description:
      - A file on the machine with the policy, in place of O(content). The examples have one from the controller.
    type: path
  state:
    description: Whether the file is to be there.
    type: str
    choices: [present, absent]
    default: present
  apply:
    description:
      - Whether to make the groups as the policy wants them, also if the file is there already.
      - Without it the policy counts from the next boot, or whenever somebody applies it.
      - It is not done, and there is a warning, if C(iommuctl.policy=) is on the kernel command line.
    type: bool
    default: false
  validate:
    description:
      - Whether iommuctl has to find the file good. Without it iommuctl need not be installed, as when an image is made.
      - O(apply) needs it.
    type: bool
    default: true
attributes:
  check_mode:
    description:
      - Can run in check mode. Says whether the file would change, and, with O(apply), which groups would.
      - Where iommuctl is not installed yet, only the file is spoken of.
    support: full
  diff_mode:
    description: Shows the file before and after, and the types of the groups that change.
    support: full
notes:
  - An initramfs has a copy of the policy. After a change, C(update-initramfs -u) or C(dracut --force) gives it the new one; the
    role P(iommuctl.iommuctl.iommuctl#role) does.
"""

EXAMPLES = r"""
- name: External devices stay strict, and local disks are fast
  iommuctl.iommuctl.iommu_policy:
    name: 50-site
    apply: true
    content:
      version: 1
      rules:
        - name: external devices stay strict
          match: { external: true }
          type: DMA
        - name: local disks are fast
          match: { class: nvme }
          type: DMA-FQ
          on_failure: warn

- name: The policy from a file beside the playbook, from the next boot on
  iommuctl.iommuctl.iommu_policy:
    name: 50-site
    content: "{{ lookup('ansible.builtin.file', 'site-policy.yaml') }}"

- name: No policy of ours
  iommuctl.iommuctl.iommu_policy:
    name: 50-site
    state: absent
"""

RETURN = r"""
path:
  description: The file.
  returned: always
  type: str
  sample: /etc/iommuctl/policy.d/50-site.yaml
file_changed:
  description: Whether the file was changed, or would be.
  returned: always
  type: bool
groups:
  description: The groups that were changed, or would be, and those that are not what the policy wants.
  returned: with O(apply)
  type: list
  elements: dict
  contains:
    group:
      description: The number of the group, which is not stable across boots.
      type: int
    devices:
      description: Its devices.
      type: list
      elements: str
    before:
      description: Its type before.
      type: str
    after:
      description: Its type afterwards, or what it would be.
      type: str
    outcome:
      description: C(changed), C(planned), C(refused), C(stopped), C(failed) or C(timed-out).
      type: str
    route:
      description: How it was changed, or would be.
      type: str
    rules:
      description: The rules that decided.
      type: list
      elements: str
    message:
      description: Why it is not what the policy wants.
      type: str
exit_code:
  description: How iommuctl ended. 1 failed, 2 did not understand the command, 3 refused, 4 partly done.
  returned: failure
  type: int
advice:
  description: What iommuctl says would work instead.
  returned: failure
  type: list
  elements: str
"""

import json
import os
import re
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.iommuctl.iommuctl.plugins.module_utils import iommuctl

# Where files of the policy are, the most important place first. Ours go into the first.
PLACES = (
    "/etc/iommuctl/policy.d",
    "/run/iommuctl/policy.d",
    "/usr/local/lib/iommuctl/policy.d",
    "/usr/lib/iommuctl/policy.d",
)

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
HEADER = "# Kept by Ansible: what is changed here is lost.\n"

# Text that means itself in YAML without quotes; everything else is quoted as in JSON.
PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9 _./-]*[A-Za-z0-9]")
WORDS = ("true", "false", "yes", "no", "on", "off", "null")


def scalar(value):
    """A value of YAML on one line."""
    if isinstance(value, str) and PLAIN.fullmatch(value) and value.lower() not in WORDS:
        return value
    return json.dumps(value, ensure_ascii=False)


def lines(value):
    """The lines of YAML for a value: as people write it, and the same on every machine, with PyYAML or without."""
    if isinstance(value, dict) and value:
        for key, item in value.items():
            if isinstance(item, (dict, list)) and item:
                yield scalar(key) + ":"
                for line in lines(item):
                    yield "  " + line
            else:
                yield "%s: %s" % (scalar(key), scalar(item))
    elif isinstance(value, list) and value:
        for item in value:
            mark = "- "
            for line in lines(item):
                yield mark + line
                mark = "  "
    else:
        yield scalar(value)


def read(path):
    """The text of a file; None if there is none."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read()
    except FileNotFoundError:
        return None


def wanted(module):
    """The text the file is to have; None if it is not to be there."""
    if module.params["state"] == "absent":
        return None
    if module.params["src"] is not None:
        text = read(module.params["src"])
        if text is None:
            module.fail_json(msg="%s is not there" % module.params["src"])
        return text
    content = module.params["content"]
    if isinstance(content, dict):
        return HEADER + "\n".join(lines(content)) + "\n"
    if isinstance(content, str):
        return content if content.endswith("\n") else content + "\n"
    return module.fail_json(msg="content is neither text nor a dictionary")


class Preview:
    """The policy as it would be, in a folder of its own, for the commands of iommuctl that only look."""

    def __init__(self, module, path, text):
        self.folder = tempfile.mkdtemp(dir=module.tmpdir)
        self.file = os.path.join(self.folder, os.path.basename(path))
        self.origins = {}
        for place in PLACES:
            for name in sorted(os.listdir(place)) if os.path.isdir(place) else []:
                if name.endswith(".yaml") and not name.startswith(".") and os.path.join(place, name) != path:
                    self.origins.setdefault(name, os.path.join(place, name))
        if text is not None:
            self.origins[os.path.basename(path)] = path
            with open(self.file, "w", encoding="utf-8", errors="surrogateescape") as file:
                file.write(text)
        for name, origin in self.origins.items():
            # A link to /dev/null masks the files of its name.
            if origin != path and os.path.realpath(origin) != os.devnull:
                shutil.copyfile(origin, os.path.join(self.folder, name))

    def in_place(self, text):
        """What was said about this folder, with the names that the files have or will have."""
        for name, origin in self.origins.items():
            text = text.replace(os.path.join(self.folder, name), origin)
        return text


def put(module, preview, path):
    """Puts the file of the preview in place, for root to write and all to read. What replaces it is whole."""
    folder = os.path.dirname(path)
    if not os.path.isdir(folder):
        os.makedirs(folder)
        # Whatever the umask is.
        for made in (os.path.dirname(folder), folder):
            os.chmod(made, 0o755)
    owned(module, preview.file)
    # An old file hands its mode on to the new one.
    if os.path.exists(path):
        owned(module, path)
    module.atomic_move(preview.file, path)
    owned(module, path)


def owned(module, path):
    """Makes root the one who can write it. Returns whether that was not so."""
    changed = module.set_owner_if_different(path, "root", False)
    changed = module.set_group_if_different(path, "root", changed)
    return module.set_mode_if_different(path, 0o644, changed)


def groups(document):
    """What happens to the groups, without those that are as they should be."""
    return [
        {
            "group": result["group"],
            "devices": [device["name"] for device in result["devices"]],
            "before": result["old_type"],
            "after": result["wanted"] if result["outcome"] == "planned" else result["new_type"],
            "outcome": result["outcome"],
            "route": result["route"],
            "rules": [rule["name"] for rule in result["rules"]],
            "message": result["message"],
        }
        for result in document.get("results", [])
        if result["outcome"] != "unchanged"
    ]


def difference(path, before, after, changes):
    """For diff mode: the file, and the types of groups."""
    both = [
        {"before_header": path, "after_header": path, "before": before or "", "after": after or ""}
    ]
    changes = [change for change in changes if change["before"] != change["after"]]
    if changes:

        def types(when):
            return "".join(
                "group %d (%s): %s\n" % (c["group"], ", ".join(c["devices"]), c[when]) for c in changes
            )

        header = "types of IOMMU groups"
        both.append(
            {"before_header": header, "after_header": header, "before": types("before"), "after": types("after")}
        )
    return both


def kernel_says():
    """The word with which the kernel command line switches the policy off, or puts another in its place."""
    words = (read("/proc/cmdline") or "").split()
    return next((word for word in words if word.startswith("iommuctl.policy=")), None)


class Work:
    """One run of the module."""

    def __init__(self, module):
        self.module = module
        name = module.params["name"]
        if not NAME.fullmatch(name):
            module.fail_json(msg="name is not that of a file: %s" % name)
        self.path = os.path.join(PLACES[0], name if name.endswith(".yaml") else name + ".yaml")
        if os.path.islink(self.path):
            module.fail_json(msg="%s is a link; remove it first, if it is not wanted" % self.path)
        self.before = read(self.path)
        self.after = wanted(module)
        self.preview = Preview(module, self.path, self.after)
        self.program = self.found()
        self.result = {"changed": False, "path": self.path, "file_changed": False}

    def found(self):
        """The program, if it is needed and there."""
        if not self.module.params["validate"]:
            return None
        program = iommuctl.find(self.module)
        if program:
            return program
        missing = "iommuctl is not installed"
        if not self.module.check_mode:
            self.module.fail_json(msg=missing)
        self.module.warn("%s yet: the policy is not checked, and nothing is known about groups" % missing)
        return None

    def ask(self, *words):
        """Asks iommuctl, and fails as it fails."""
        code, document = iommuctl.ask(self.module, self.program, "policy", *words)
        if "results" in document:
            self.result["groups"] = groups(document)
            counts = "planned" if self.module.check_mode else "changed"
            if any(group["outcome"] == counts for group in self.result["groups"]):
                self.result["changed"] = True
        if code != iommuctl.DONE:
            message, advice = iommuctl.complaint(code, document)
            message = self.preview.in_place(message)
            advice = [self.preview.in_place(line) for line in advice]
            self.module.fail_json(msg=message, advice=advice, exit_code=code, **self.result)
        return document

    def place(self):
        """Makes the file what it is to be."""
        changed = self.before != self.after
        if self.before is not None and self.after is not None and not changed:
            changed = owned(self.module, self.path)
        elif changed and not self.module.check_mode:
            if self.after is None:
                os.unlink(self.path)
            else:
                put(self.module, self.preview, self.path)
        self.result["file_changed"] = changed
        self.result["changed"] = self.result["changed"] or changed

    def run(self):
        """Checks, plans, places the file and applies the policy, in this order."""
        apply = self.module.params["apply"] and self.program is not None
        word = kernel_says()
        if apply and word:
            self.module.warn("%s is on the kernel command line: the policy is not applied" % word)
            apply = False
        if self.program and self.after is not None:
            self.ask("check", self.preview.file)
        document = {}
        if apply:
            document = self.ask("plan", "--policy", self.preview.folder)
        self.place()
        if apply and not self.module.check_mode:
            # As far as it came, if it fails.
            document = self.ask("apply")
        for result in document.get("results", []):
            if result["outcome"] in iommuctl.UNMET:
                self.module.warn("%s: %s" % (iommuctl.of_group(result), result["message"]))
        changes = self.result.get("groups", [])
        self.result["diff"] = difference(self.path, self.before, self.after, changes)
        self.module.exit_json(**self.result)


def main():
    """Runs the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "content": {"type": "raw"},
            "src": {"type": "path"},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "apply": {"type": "bool", "default": False},
            "validate": {"type": "bool", "default": True},
        },
        mutually_exclusive=[("content", "src")],
        required_if=[("state", "present", ("content", "src"), True)],
        supports_check_mode=True,
    )
    if module.params["apply"] and not module.params["validate"]:
        module.fail_json(msg="apply needs validate")
    Work(module).run()


if __name__ == "__main__":
    main()

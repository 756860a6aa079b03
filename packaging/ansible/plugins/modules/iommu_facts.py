#!/usr/bin/python
# SPDX-License-Identifier: GPL-2.0-only
# It imports nothing of Ansible but module_utils/basic.py, which is under the BSD licence and goes with this one.
"""The IOMMU groups of a machine as facts."""

from __future__ import annotations

DOCUMENTATION = r"""
module: iommu_facts
short_description: The IOMMU groups of a machine as facts
version_added: "0.1.0"
description:
  - What C(iommuctl list), C(iommuctl status) and C(iommuctl policy diff) say, as C(ansible_facts.iommu).
  - It changes nothing.
  - A machine without iommuctl has the empty fact C({}), and there is a warning.
author:
  - The iommuctl developers (!UNKNOWN)
attributes:
  check_mode:
    description: Can run in check mode, and does the same there.
    support: full
  diff_mode:
    description: There is nothing to differ.
    support: none
options: {}
"""

EXAMPLES = r"""
- name: What is there
  iommuctl.iommuctl.iommu_facts:

- name: No external device is lazy
  ansible.builtin.assert:
    that: item.type == 'DMA'
  loop: "{{ ansible_facts.iommu.groups }}"
  when: item.devices | selectattr('external') | list | length > 0

- name: The machine is as its policy wants it
  ansible.builtin.assert:
    that: ansible_facts.iommu.policy.differences | length == 0
"""

RETURN = r"""
ansible_facts:
  description: Facts for C(ansible_facts).
  returned: always
  type: dict
  contains:
    iommu:
      description: Empty if iommuctl is not installed.
      returned: always
      type: dict
      contains:
        groups:
          description: Each group with its number, C(type) and C(devices), as C(iommuctl list --json) has them.
          returned: with iommuctl
          type: list
          elements: dict
          sample:
            - group: 1
              name: null
              type: DMA
              devices: [{name: "0000:00:03.0", driver: nvme, external: false}]
        policy:
          description:
            - The C(files) of the policy, and the C(differences) between it and the machine, as
              C(iommuctl policy diff --json) has them.
            - If the policy is wrong, C(error) says so in place of both.
          returned: with iommuctl
          type: dict
        lockdown:
          description: The lockdown in force; null without one.
          returned: with iommuctl
          type: dict
        module:
          description: The kernel module iommu_live with its counters; null if it is not loaded.
          returned: with iommuctl
          type: dict
        kernel:
          description: The running kernel, and the type its groups start with.
          returned: with iommuctl
          type: dict
        iommus:
          description: The IOMMUs of the machine.
          returned: with iommuctl
          type: list
          elements: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible_collections.iommuctl.iommuctl.plugins.module_utils import iommuctl


def facts(module, program):
    """What iommuctl says about this machine."""
    said = {}
    for command in ("list", "status"):
        code, said[command] = iommuctl.ask(module, program, command)
        if code != iommuctl.DONE:
            module.fail_json(msg=iommuctl.complaint(code, said[command])[0], exit_code=code)
    # That something differs is no failure, and a policy that is wrong is a fact.
    code, policy = iommuctl.ask(module, program, "policy", "diff")
    if "error" in policy:
        policy = {"error": iommuctl.complaint(code, policy)[0]}
    else:
        policy = {key: policy[key] for key in ("files", "differences")}
    status = said["status"]
    found = {key: status[key] for key in ("kernel", "iommus", "module", "lockdown")}
    return dict(found, groups=said["list"]["groups"], policy=policy)


def main():
    """Runs the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    program = iommuctl.find(module)
    if not program:
        module.warn("iommuctl is not installed: nothing is known about IOMMU groups")
    iommu = facts(module, program) if program else {}
    module.exit_json(changed=False, ansible_facts={"iommu": iommu})


if __name__ == "__main__":
    main()

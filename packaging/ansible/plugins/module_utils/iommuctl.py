# SPDX-License-Identifier: GPL-2.0-only
"""Asking iommuctl, and putting what it says into words."""

from __future__ import annotations

import json

# How iommuctl ends; see "Exit codes" in iommuctl(8).
DONE = 0
PARTLY = 4
ENDINGS = {1: "Failed", 2: "Not understood", 3: "Refused", PARTLY: "Partly done"}

# Outcomes of a group that is not what the policy wants.
UNMET = ("refused", "stopped", "failed", "timed-out")


def find(module):
    """The path of iommuctl; None if it is not installed."""
    return module.get_bin_path("iommuctl", opt_dirs=["/usr/sbin", "/sbin"])


def ask(module, program, *words):
    """How `iommuctl --json WORDS` ended, and the document that it wrote."""
    code, out, err = module.run_command([program, "--json"] + list(words))
    try:
        document = json.loads(out)
    except ValueError:
        document = {}
    if document.get("version") != 1:
        module.fail_json(
            msg="`iommuctl %s` ended with %d and wrote no document that this collection knows: %s"
            % (" ".join(words), code, err.strip() or out.strip()),
            exit_code=code,
        )
    return code, document


def of_group(result):
    """A group for people: its number changes from boot to boot, its devices do not."""
    devices = ", ".join(device["name"] for device in result["devices"])
    return "group %d (%s)" % (result["group"], devices)


def complaint(code, document):
    """Why iommuctl ended so, in its own words, and what it says would work instead."""
    error = document.get("error")
    if error:
        reasons, advice = [error["message"]], error["advice"]
    else:
        unmet = [r for r in document["results"] if r["outcome"] in UNMET and r["on_failure"] == "fail"]
        reasons = ["%s: %s" % (of_group(r), r["message"] or r["outcome"]) for r in unmet]
        advice = list(dict.fromkeys(line for r in unmet for line in r["advice"]))
    text = "%s: %s" % (ENDINGS.get(code, "Ended with %d" % code), "; ".join(reasons))
    return "\n  - ".join([text] + advice), advice

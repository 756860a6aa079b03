// SPDX-License-Identifier: GPL-2.0-only
//! Output, compared whole with `expected/`, and JSON, checked against `schema/`.

use std::fs;
use std::os::unix::fs::symlink;

use serde_json::Value;

use crate::schema;
use crate::support::{tests_dir, Machine, Run};

/// Compares, or rewrites what is expected.
pub fn compare(name: &str, found: &str) {
    let path = tests_dir("expected").join(name);
    if std::env::var_os("UPDATE_EXPECTED").is_some() {
        let written = fs::write(&path, found);
        assert!(written.is_ok(), "{}: {written:?}", path.display());
        return;
    }
    let expected = fs::read_to_string(&path).unwrap_or_default();
    assert!(
        expected == found,
        "{name} is not as expected.\n--- expected\n{expected}\n--- found\n{found}"
    );
}

/// Everything a run said, in one text.
pub fn transcript(run: &Run) -> String {
    format!("{}--- stderr\n{}--- exit {}\n", run.out, run.err, run.code)
}

/// A JSON document, without what differs from run to run.
fn steady(mut document: Value) -> String {
    for result in document["results"].as_array_mut().into_iter().flatten() {
        if result["milliseconds"].is_number() {
            result["milliseconds"] = 0.into();
        }
        for device in result["interrupted"].as_array_mut().into_iter().flatten() {
            if device["milliseconds"].is_number() {
                device["milliseconds"] = 0.into();
            }
        }
    }
    format!("{document:#}\n")
}

/// One command, for people and for programs.
pub fn both(machine: &Machine, name: &str, of: &str, args: &[&str]) {
    compare(&format!("{name}.txt"), &transcript(&machine.run(args)));
    let json = machine.run(&[&["--json"], args].concat());
    schema::check(of, &json.json());
    compare(&format!("{name}.json"), &steady(json.json()));
}

#[test]
fn list() {
    both(&Machine::laptop(), "list", "list", &["list"]);
}

#[test]
fn show() {
    let machine = Machine::laptop();
    both(
        &machine,
        "show",
        "show",
        &["show", "0", "5", "12", "16", "18"],
    );
}

#[test]
fn show_with_the_module() {
    let machine = Machine::laptop().with_module();
    both(
        &machine,
        "show-module",
        "show",
        &["show", "/fixture/covered", "00:14.0"],
    );
}

#[test]
fn status() {
    both(&Machine::laptop(), "status", "status", &["status"]);
    let machine = Machine::laptop().with_module();
    both(&machine, "status-module", "status", &["status"]);
    let machine = Machine::new("no-iommu");
    both(&machine, "status-no-iommu", "status", &["status"]);
    let machine = Machine::laptop();
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    machine.leave_bench(12, "DMA", "0000:00:06.0/0000:01:00.0");
    both(&machine, "status-interrupted", "status", &["status"]);
}

#[test]
fn status_while_the_module_cleans_up() {
    let machine = Machine::laptop().with_module().with_cleanups(123_456_789);
    let json = machine.run(&["--json", "status"]);
    schema::check("status", &json.json());
    compare("status-cleanups.json", &steady(json.json()));
    // For how long depends on the machine that this runs on.
    let run = machine.run(&["status"]);
    let steady = |line: &str| match line.split_once("strict since ") {
        Some((before, after)) => {
            let (_, after) = after.split_once("; 2").unwrap_or_default();
            format!("{before}strict since SINCE; cleaning up for AGE; 2{after}\n")
        }
        None => format!("{line}\n"),
    };
    let text: String = run.out.lines().map(steady).collect();
    compare("status-cleanups.txt", &text);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
}

#[test]
fn set_mode_dry_run() {
    let args = ["set-mode", "--dry-run", "all", "DMA"];
    both(&Machine::laptop(), "dry-run", "set-mode", &args);
    let machine = Machine::laptop().with_module();
    both(&machine, "dry-run-module", "set-mode", &args);
}

#[test]
fn rebind_dry_run() {
    let route = ["set-mode", "--dry-run", "--route", "rebind"];
    let machine = Machine::laptop();
    let args = [&route[..], &["0", "8", "10", "12", "19", "identity"]].concat();
    both(&machine, "rebind-dry-run", "set-mode", &args);
}

#[test]
fn recover() {
    let machine = Machine::laptop();
    both(&machine, "recover-nothing", "recover", &["recover"]);
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    both(
        &machine,
        "recover-dry-run",
        "recover",
        &["recover", "--dry-run"],
    );
}

#[test]
fn set_mode_json_of_a_change_and_a_refusal() {
    let machine = Machine::laptop();
    let run = machine.run(&["--json", "set-mode", "14", "16", "17", "DMA-FQ"]);
    schema::check("set-mode", &run.json());
    compare("set-mode.json", &steady(run.json()));
    assert_eq!(run.code, 4);
}

#[test]
fn no_iommu() {
    both(&Machine::new("no-iommu"), "no-iommu", "error", &["list"]);
}

/// Two functions of the chip in group 10 want different things, and an external disk is asked to be relaxed.
const POLICY: &str = "\
version: 1
rules:
  - name: audio is strict
    match: { class: audio }
    type: DMA
  - name: wired network is fast
    match: { class: ethernet }
    type: DMA-FQ
    route: rebind
  - name: disks are fast
    match: { class: nvme }
    type: DMA-FQ
    on_failure: warn
  - name: the radio is fast
    match: { class: wifi }
    type: DMA-FQ
";

#[test]
fn policy_check() {
    let machine = Machine::laptop().with_policy(POLICY);
    machine.file("usr/lib/iommuctl/policy.d/50-site.yaml", "not even YAML: [");
    machine.file("usr/lib/iommuctl/policy.d/10-vendor.yaml", "version: 1\n");
    let mask = machine.root("run/iommuctl/policy.d/10-vendor.yaml");
    machine.file("run/iommuctl/policy.d/README", "not a policy");
    symlink("/dev/null", mask).unwrap();
    both(
        &machine,
        "policy-check",
        "policy-check",
        &["policy", "check"],
    );
    let none = Machine::laptop();
    both(&none, "policy-none", "policy-apply", &["policy", "plan"]);
}

#[test]
fn policy_plan() {
    let machine = Machine::laptop().with_policy(POLICY);
    both(&machine, "policy-plan", "policy-apply", &["policy", "plan"]);
    let machine = machine.with_module();
    both(
        &machine,
        "policy-plan-module",
        "policy-apply",
        &["policy", "plan", "--all"],
    );
}

#[test]
fn policy_explain() {
    let machine = Machine::laptop().with_policy(POLICY);
    let explain = |name: &str, device: &str| {
        both(
            &machine,
            name,
            "policy-explain",
            &["policy", "explain", device],
        );
    };
    explain("policy-explain-conflict", "enp0s31f6");
    explain("policy-explain-bridge", "00:07.0");
    explain("policy-explain-external", "0000:04:00.0");
    explain("policy-explain-planned", "/dev/nvme0n1");
    explain("policy-explain-relax", "02:00.0");
}

#[test]
fn policy_diff() {
    let machine = Machine::laptop().with_policy(POLICY);
    both(&machine, "policy-diff", "policy-diff", &["policy", "diff"]);
}

#[test]
fn policy_apply_and_again() {
    let machine = Machine::laptop().with_policy(POLICY).with_module();
    let run = machine.run(&["--json", "policy", "apply"]);
    schema::check("policy-apply", &run.json());
    compare("policy-apply.json", &steady(run.json()));
    let args = ["policy", "apply"];
    both(&machine, "policy-apply-again", "policy-apply", &args);
}

#[test]
fn policy_that_is_wrong() {
    let machine =
        Machine::laptop().with_policy("version: 1\nrules:\n  - { name: disks, matches: {} }\n");
    machine.file("usr/lib/iommuctl/policy.d/10-vendor.yaml", "version: 3\n");
    both(&machine, "policy-wrong", "error", &["policy", "apply"]);
}

#[test]
fn policy_generate() {
    let run = Machine::laptop().run(&["policy", "generate"]);
    compare("policy-generate.yaml", &run.out);
}

#[test]
fn lockdown_and_release() {
    let machine = Machine::laptop();
    machine.file("run/x", "");
    let json = |name: &str, command: &str| {
        let run = machine.run(&["--json", command]);
        schema::check("lockdown", &run.json());
        compare(&format!("{name}.json"), &steady(run.json()));
    };
    json("lockdown", "lockdown");
    json("release", "release");
    let machine = machine.with_module();
    machine.run(&["set-mode", "12", "DMA"]);
    both(&machine, "release-nothing", "lockdown", &["release"]);
}

#[test]
fn defaults() {
    let machine = Machine::laptop();
    machine.file("proc/cmdline", "quiet intel_iommu=on iommu.strict=0\n");
    machine.file("etc/kernel/cmdline", "root=/dev/sda1 ro\n");
    machine.file("usr/bin/kernel-install", "");
    both(&machine, "defaults", "defaults", &["defaults"]);
    let args = ["defaults", "set", "strict", "--dry-run"];
    both(&machine, "defaults-set", "defaults-change", &args);
}

#[test]
fn help_is_as_documented() {
    let machine = Machine::laptop();
    let help = |args: &[&str]| machine.run(args).out;
    compare("help.txt", &help(&["--help"]));
    compare("help-set-mode.txt", &help(&["set-mode", "--help"]));
    compare("help-recover.txt", &help(&["recover", "--help"]));
    compare("help-policy.txt", &help(&["policy", "--help"]));
    compare(
        "help-policy-apply.txt",
        &help(&["policy", "apply", "--help"]),
    );
    compare("help-defaults.txt", &help(&["defaults", "--help"]));
    compare("help-doctor.txt", &help(&["doctor", "--help"]));
    compare("help-watch.txt", &help(&["watch", "--help"]));
    compare("help-metrics.txt", &help(&["metrics", "--help"]));
    compare(
        "help-audit-report.txt",
        &help(&["audit", "report", "--help"]),
    );
    compare("help-lockdown.txt", &help(&["lockdown", "--help"]));
}

// SPDX-License-Identifier: GPL-2.0-only
//! `bench`: what is measured and what is not. The disk is a plain file.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod back;
mod terminal;

use std::fs;

use serde_json::Value;

use crate::golden::{both, compare, transcript};
use crate::schema;
use crate::support::{Machine, Run};

/// The group of the disk.
const GROUP: u32 = 12;

/// A laptop whose disk can be read.
fn laptop() -> Machine {
    let machine = Machine::laptop();
    for folder in ["var/log", "var/lib"] {
        fs::create_dir_all(machine.root(folder)).unwrap();
    }
    machine.file("dev/nvme0n1", &"x".repeat(1 << 20));
    machine.file("dev/nvme0n1p2", &"x".repeat(1 << 16));
    machine
}

fn with_type(machine: &Machine, name: &str) {
    fs::write(machine.type_file(GROUP), format!("{name}\n")).unwrap();
}

fn json(run: &Run) -> Value {
    let document = run.json();
    schema::check("bench", &document);
    document
}

/// The closing record of each change in the audit log.
fn closed(machine: &Machine) -> Vec<Value> {
    let text = fs::read_to_string(machine.root("var/log/iommuctl/audit.jsonl")).unwrap();
    let records = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["event"].clone());
    records.filter(|r| r["phase"] == "closed").collect()
}

/// `(old type, requested)` of each change in the audit log.
fn changes(machine: &Machine) -> Vec<(String, String)> {
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    closed(machine)
        .iter()
        .map(|r| (word(&r["old_type"]), word(&r["requested"])))
        .collect()
}

#[test]
fn both_types_are_measured_from_either_and_the_first_comes_back() {
    for (original, other) in [("DMA-FQ", "DMA"), ("DMA", "DMA-FQ")] {
        let machine = laptop().with_module();
        with_type(&machine, original);
        let run = machine.run(&["--json", "bench", "--seconds", "5", "01:00.0"]);
        assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
        let found = json(&run);
        assert_eq!(found["original_type"], original);
        assert_eq!(found["type"], original);
        assert_eq!(machine.type_of(GROUP), format!("{original}\n"));
        assert_eq!(found["types"], serde_json::json!([original, other]));
        assert_eq!(found["measurements"].as_array().unwrap().len(), 8);
        assert_eq!(found["comparisons"].as_array().unwrap().len(), 4);
        for one in found["measurements"].as_array().unwrap() {
            assert!(one["reads"].as_u64().unwrap() > 10, "{one}");
        }
        let large = &found["large"];
        assert_eq!(large["block_size"], 128 * 1024);
        assert_eq!(large["measurements"].as_array().unwrap().len(), 4);
        assert_eq!(large["comparisons"].as_array().unwrap().len(), 2);
        for one in large["measurements"].as_array().unwrap() {
            assert!(one["reads"].as_u64().unwrap() > 1, "{one}");
        }
        assert_eq!(found["lazy_covers"], "not-ranges");
        let took = found["changes"].as_array().unwrap();
        assert_eq!((took.len(), &took[0]["type"]), (4, &other.into()));
        assert!(
            took.iter().all(|c| c["milliseconds"].is_number()),
            "{took:?}"
        );
        assert!(found["recommendation"]["text"].is_string());
        let mut switched = changes(&machine);
        assert_eq!(switched.len(), 4, "{switched:?}");
        switched.dedup();
        assert_eq!(switched.len(), 4, "{switched:?}");
        assert!(!machine.run_dir("bench-12").exists());
        // What was the cause of it all is recorded, can be looked for, and is said.
        for record in closed(&machine) {
            assert_eq!(record["who"]["cause"], "bench", "{record}");
        }
        let log = machine.run(&["--json", "audit", "log", "--who", "bench"]);
        schema::check("audit-log", &log.json());
        assert_eq!(log.json()["entries"].as_array().unwrap().len(), 4);
        let log = machine.run(&["audit", "log"]);
        assert_eq!(log.out.matches(" for a bench").count(), 4, "{log:?}");
    }
}

#[test]
fn a_disk_without_room_for_large_reads_has_none() {
    let machine = laptop().with_module();
    let run = machine.run(&["--json", "bench", "--seconds", "5", "nvme0n1p2"]);
    assert_eq!(run.code, 0, "{run:?}");
    let found = json(&run);
    assert!(found["large"].is_null(), "{found}");
    assert_eq!(found["measurements"].as_array().unwrap().len(), 8);
}

#[test]
fn without_the_module_only_the_present_type_is_measured() {
    for original in ["DMA", "DMA-FQ"] {
        let machine = laptop();
        with_type(&machine, original);
        let run = machine.run(&["--json", "bench", "--seconds", "5", "12"]);
        assert_eq!(run.code, 4, "{run:?}");
        let found = json(&run);
        assert_eq!(found["not_compared"]["reason"], "no-module");
        assert!(run.err.contains("modprobe iommu_live"), "{}", run.err);
        assert_eq!(found["measurements"].as_array().unwrap().len(), 4);
        assert_eq!(machine.type_of(GROUP), format!("{original}\n"));
        // Not even a turn was taken.
        assert!(!machine.root("run/iommuctl/lock").exists());
    }
}

#[test]
fn what_is_no_disk_is_refused_with_a_way_out() {
    let machine = laptop().with_module();
    for (device, reason, words) in [
        ("enp0s31f6", "network", "iperf3"),
        ("00:1f.6", "network", "set-mode 10 DMA"),
        ("00:02.0", "not-a-disk", "by turns"),
        ("/", "stacked", "/dev/nvme0n1p2"),
    ] {
        let run = machine.run(&["--json", "bench", device]);
        assert_eq!(run.code, 3, "{run:?}");
        let found = json(&run);
        assert_eq!(found["refusal"]["reason"], reason, "{run:?}");
        assert!(run.err.contains(words), "{}", run.err);
        assert!(found["subject"].is_null());
    }
    with_type(&machine, "identity");
    let run = machine.run(&["--json", "bench", "01:00.0"]);
    assert_eq!(
        (run.code, json(&run)["refusal"]["reason"].clone()),
        (3, "type".into())
    );
    assert_eq!(machine.type_of(GROUP), "identity\n");
    // Also where it would stand for one.
    for machine in [&machine, &Machine::new("no-iommu")] {
        let run = machine.run(&["bench", "all"]);
        assert_eq!((run.code, run.out.as_str()), (2, ""), "{run:?}");
        assert!(
            run.err.contains("one device is measured at a time"),
            "{run:?}"
        );
    }
    let several = machine.run(&["bench", "driver:nvme"]);
    assert_eq!(several.code, 2, "{several:?}");
    assert!(
        several.err.contains("one device is measured at a time") && several.err.contains("lsblk")
    );
    for seconds in ["4", "301", "x"] {
        let run = machine.run(&["bench", "--seconds", seconds, "01:00.0"]);
        assert_eq!(run.code, 2, "{run:?}");
    }
}

#[test]
fn a_disk_can_be_named_as_the_kernel_does() {
    let machine = laptop().with_module();
    for (name, disk) in [("nvme0n1", "nvme0n1"), ("nvme0n1p2", "nvme0n1p2")] {
        let run = machine.run(&["--json", "bench", "--dry-run", name]);
        assert_eq!(run.code, 0, "{run:?}");
        let subject = &json(&run)["subject"];
        assert_eq!(
            (&subject["disk"], &subject["group"]),
            (&disk.into(), &12.into())
        );
    }
    // Made of other disks.
    let run = machine.run(&["--json", "bench", "dm-0"]);
    assert_eq!(json(&run)["refusal"]["reason"], "stacked", "{run:?}");
}

#[test]
fn a_device_with_several_disks_is_asked_which() {
    let machine = laptop().with_module();
    let path = "devices/pci0000:00/0000:00:06.0/0000:01:00.0/nvme/nvme0/nvme0n2";
    fs::create_dir_all(machine.sys(path)).unwrap();
    let link = machine.sys("class/block/nvme0n2");
    std::os::unix::fs::symlink(format!("../../{path}"), link).unwrap();
    let run = machine.run(&["bench", "01:00.0"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.err.contains("/dev/nvme0n1, /dev/nvme0n2"),
        "{}",
        run.err
    );
    // The paths of a disk that has several are no disks.
    fs::write(machine.sys(&format!("{path}/hidden")), "1\n").unwrap();
    assert_eq!(machine.run(&["bench", "--dry-run", "01:00.0"]).code, 0);
    let run = machine.run(&["--json", "bench", "--dry-run", "nvme0n2"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(json(&run)["refusal"]["reason"], "paths");
    // Nor can one be measured whose paths are in several groups.
    let path = "../../../pci0000:00/0000:00:06.0/0000:01:00.0/nvme/nvme0";
    let link = machine.sys("devices/virtual/nvme-subsystem/nvme-subsys1/nvme0");
    std::os::unix::fs::symlink(path, link).unwrap();
    let run = machine.run(&["--json", "bench", "--dry-run", "nvme1n1"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert_eq!(json(&run)["refusal"]["reason"], "paths");
    assert!(run.err.contains("paths through 2 groups"), "{}", run.err);
}

#[test]
fn what_is_behind_a_port_is_of_another_group() {
    let machine = laptop().with_module();
    for port in ["0000:00:07.0", "5"] {
        let run = machine.run(&["bench", "--dry-run", port]);
        assert_eq!(run.code, 3, "{run:?}");
        assert!(run.err.contains("it has no disk"), "{}", run.err);
    }
    let run = machine.run(&["--json", "bench", "--dry-run", "0000:04:00.0"]);
    let subject = &json(&run)["subject"];
    assert_eq!(subject["group"], 16, "{run:?}");
    assert_eq!(subject["address"], "0000:04:00.0", "{run:?}");
}

#[test]
fn whoever_wants_it_strict_is_heeded() {
    let policy =
        "version: 1\nrules:\n  - { name: disks are strict, match: { class: nvme }, type: DMA }\n";
    let machine = laptop().with_module().with_policy(policy);
    let dry = ["--json", "bench", "--dry-run", "01:00.0"];
    let run = machine.run(&dry);
    assert_eq!(run.code, 4, "{run:?}");
    let found = json(&run);
    assert_eq!(found["not_compared"]["reason"], "policy");
    assert!(run.err.contains("disks are strict") && run.err.contains("--allow-against-policy"));
    let run = machine.run(&[&dry[..], &["--allow-against-policy"]].concat());
    assert!(json(&run)["not_compared"].is_null());
    // A policy that is wrong protects nothing else, either.
    machine.file("etc/iommuctl/policy.d/60-wrong.yaml", "version: 9\n");
    let run = machine.run(&dry);
    assert_eq!(json(&run)["not_compared"]["reason"], "policy");
    assert!(run.err.contains("iommuctl policy check"), "{}", run.err);
    fs::remove_dir_all(machine.root("etc/iommuctl")).unwrap();
    assert!(json(&machine.run(&dry))["not_compared"].is_null());
    assert_eq!(machine.run(&["set-mode", "12", "DMA"]).code, 0);
    machine.run(&["lockdown"]);
    let run = machine.run(&dry);
    assert_eq!(json(&run)["not_compared"]["reason"], "lockdown");
    assert_eq!(machine.run(&["bench", "--seconds", "5", "01:00.0"]).code, 4);
    assert_eq!(machine.type_of(GROUP), "DMA\n");
}

#[test]
fn what_cannot_be_recorded_is_not_done() {
    let machine = laptop().with_module();
    machine.file("etc/iommuctl/audit.yaml", "version: 1\nrequire: log\n");
    machine.file("var/log/iommuctl", "not a folder");
    let run = machine.run(&["--json", "bench", "--seconds", "5", "01:00.0"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(json(&run)["not_compared"]["reason"], "kernel");
    assert_eq!(machine.type_of(GROUP), "DMA-FQ\n");
}

#[test]
fn for_people() {
    let machine = laptop().with_module();
    let people = |locale: &str| {
        let mut command = machine.command(&["bench", "--seconds", "5", "01:00.0"]);
        let output = command.env("LC_ALL", locale).output().unwrap();
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    let text = people("C");
    for words in [
        "AT A TIME",
        "LAZY AGAINST STRICT",
        "Reads in a second",
        "The same for reads of 128 KiB",
        "Reads of 128 KiB in a second",
        "Each change of the type took",
        "lazy covers unmaps of one segment",
        "##",
    ] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
    assert!(text.is_ascii(), "{text}");
    let text = people("C.UTF-8");
    // On a terminal that is as wide as most, nothing is broken but sentences.
    let text = text.replace(&machine.root("").display().to_string(), "/");
    let (figures, _) = text.split_once("\nReads in a second").unwrap();
    for line in figures.lines() {
        assert!(line.chars().count() <= 80, "{line}");
    }
    assert!(text.contains('█') && !text.contains('\x1b'), "{text}");
    let run = machine.run(&["-q", "bench", "--seconds", "5", "01:00.0"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
}

#[test]
fn said_whole() {
    let machine = laptop().with_module();
    both(
        &machine,
        "bench-dry-run",
        "bench",
        &["bench", "--dry-run", "01:00.0"],
    );
    both(&machine, "bench-network", "bench", &["bench", "enp0s31f6"]);
    let stock = laptop();
    both(
        &stock,
        "bench-no-module",
        "bench",
        &["bench", "--dry-run", "01:00.0"],
    );
    let long = machine.run(&["bench", "--help"]).out;
    compare("help-bench.txt", &long);
    assert!(!long.contains("rebind"), "{long}");
    let short = machine.run(&["bench", "-h"]).out;
    compare("help-bench-short.txt", &short);
    assert!(2 * short.lines().count() < long.lines().count(), "{short}");
    let missing = Machine::laptop().with_module();
    let run = missing.run(&["bench", "01:00.0"]);
    compare("bench-no-node.txt", &transcript(&run));
}

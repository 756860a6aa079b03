// SPDX-License-Identifier: GPL-2.0-only
//! What is recorded of what is done, and what is not done because it cannot be recorded.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::Value;

use crate::schema;
use crate::support::Machine;

const LOG: &str = "var/log/iommuctl/audit.jsonl";

/// A machine that can have a log.
fn machine() -> Machine {
    let machine = Machine::laptop();
    for folder in ["var/log", "var/lib"] {
        fs::create_dir_all(machine.root(folder)).unwrap();
    }
    machine
}

fn entries(machine: &Machine, arguments: &[&str]) -> Vec<Value> {
    let run = machine.run(&[&["--json", "audit", "log"], arguments].concat());
    assert_eq!(run.code, 0, "{run:?}");
    schema::check("audit-log", &run.json());
    run.json()["entries"].as_array().unwrap().clone()
}

#[test]
fn change_is_announced_and_then_told() {
    let machine = machine();
    assert_eq!(machine.run(&["set-mode", "14", "DMA-FQ"]).code, 0);
    let text = fs::read_to_string(machine.root(LOG)).unwrap();
    let phases: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap()["event"]["phase"].clone())
        .collect();
    assert_eq!(phases, ["opened", "closed"]);
    let mode = fs::metadata(machine.root(LOG))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let entries = entries(&machine, &[]);
    let [entry] = &entries[..] else {
        panic!("{entries:?}");
    };
    for (key, value) in [
        ("group", Value::from(14)),
        ("old_type", "DMA".into()),
        ("new_type", "DMA-FQ".into()),
        ("outcome", "changed".into()),
        ("route", "sysfs".into()),
        ("learned", "iommuctl".into()),
    ] {
        assert_eq!(entry[key], value, "{entry}");
    }
    assert!(entry["devices"][0]["ids"].is_string(), "{entry}");
    let run = machine.run(&["audit", "log"]);
    assert!(
        run.out.contains("DMA       DMA-FQ    changed"),
        "{}",
        run.out
    );
    // A write into a plain file is over in a moment, and is not said to have taken none.
    let (_, took) = run.out.split_once("; in ").unwrap();
    let (took, _) = took.split_once("; by ").unwrap();
    assert!(took.ends_with(" us") || took.ends_with(" ms"), "{took}");
}

#[test]
fn refusals_are_recorded_and_what_was_so_already_is_not() {
    let machine = machine();
    assert_eq!(machine.run(&["set-mode", "driver:e1000e", "DMA"]).code, 3);
    assert_eq!(machine.run(&["set-mode", "14", "DMA"]).code, 0);
    assert_eq!(
        machine.run(&["set-mode", "--dry-run", "14", "DMA-FQ"]).code,
        0
    );
    let entries = entries(&machine, &[]);
    assert_eq!(entries.len(), 1, "{entries:?}");
    assert_eq!(entries[0]["outcome"], "refused");
    assert!(entries[0]["message"].as_str().unwrap().contains("driver"));
}

#[test]
fn policy_names_its_rule() {
    let rule = "version: 1\nrules:\n  - { name: quick, match: { class: network }, type: DMA-FQ }\n";
    let machine = machine().with_policy(rule);
    machine.run(&["policy", "apply"]);
    let by_rule = entries(&machine, &["--who", "quick"]);
    assert!(!by_rule.is_empty());
    for entry in &by_rule {
        assert_eq!(entry["who"]["rules"][0], "quick", "{entry}");
    }
    assert!(entries(&machine, &["--who", "another"]).is_empty());
}

#[test]
fn filters_and_the_last_lines() {
    let machine = machine();
    for wanted in ["DMA-FQ", "DMA"] {
        machine.run(&["set-mode", "14", wanted]);
    }
    machine.run(&["set-mode", "driver:e1000e", "DMA"]);
    let count = |arguments: &[&str]| entries(&machine, arguments).len();
    assert_eq!(count(&["--group", "14"]), 2);
    assert_eq!(count(&["--outcome", "refused"]), 2);
    assert_eq!(count(&["--outcome", "refused", "--outcome", "changed"]), 3);
    assert_eq!(count(&["--since", "1h"]), 3);
    assert_eq!(count(&["--until", "1h"]), 0);
    assert_eq!(count(&["--device", "0000:00:1f.6"]), 1);
    assert_eq!(count(&["--device", "00:1f.6"]), 1);
    assert_eq!(count(&["--boot"]), 3);
    let last = entries(&machine, &["-n", "1"]);
    assert_eq!(last[0]["group"], 10, "{last:?}");
    assert_eq!(machine.run(&["audit", "log", "--since", "soon"]).code, 2);
}

#[test]
fn nothing_is_changed_that_cannot_be_recorded() {
    let machine = machine();
    let folder = machine.root("var/log/iommuctl");
    fs::create_dir(&folder).unwrap();
    fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
    let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
    assert_eq!(run.code, 1);
    for words in [
        "nothing was done",
        "cannot be recorded",
        "others can write to it",
    ] {
        assert!(run.err.contains(words), "{}", run.err);
    }
    assert_eq!(machine.type_of(14), "DMA\n");

    machine.file("etc/iommuctl/audit.yaml", "version: 1\nrequire: none\n");
    let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("not in the audit log"), "{}", run.err);
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
}

#[test]
fn wrong_settings_change_nothing() {
    let machine = machine();
    for (text, words) in [
        ("version: 1\nrequires: log\n", "did you mean `require`"),
        ("version: 1\nrequire: all\n", "unknown value"),
        ("version: 2\n", "version 2"),
        ("version: 1\nrotate: { size: 3 }\n", "size_mib"),
    ] {
        machine.file("etc/iommuctl/audit.yaml", text);
        let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.err.contains("audit.yaml:"), "{}", run.err);
        assert!(run.err.contains(words), "{words}: {}", run.err);
        assert_eq!(machine.type_of(14), "DMA\n");
    }
}

#[test]
fn verify_tells_and_ends_accordingly() {
    let machine = machine();
    let none = machine.run(&["audit", "verify"]);
    assert_eq!(none.code, 1);
    assert!(none.err.contains("there is no audit log"), "{}", none.err);
    for wanted in ["DMA-FQ", "DMA-FQ"] {
        machine.run(&["set-mode", "14", wanted]);
        fs::write(machine.type_file(14), "DMA\n").unwrap();
    }
    let run = machine.run(&["--json", "audit", "verify"]);
    assert_eq!(run.code, 0, "{run:?}");
    schema::check("audit-verify", &run.json());

    let text = fs::read_to_string(machine.root(LOG)).unwrap();
    fs::write(machine.root(LOG), text.replacen("DMA-FQ", "DMA-fq", 1)).unwrap();
    let run = machine.run(&["audit", "verify"]);
    assert_eq!(run.code, 3);
    assert!(run.out.contains("record 1 was edited"), "{}", run.out);
    assert!(run.err.contains("not as it was written"), "{}", run.err);
    let run = machine.run(&["--json", "audit", "verify"]);
    schema::check("audit-verify", &run.json());
    assert_eq!(run.json()["findings"][0]["finding"], "edited");
}

#[test]
fn key_that_others_can_read_is_none() {
    let machine = machine();
    let key = machine.file(
        "etc/iommuctl/audit.key",
        "0123456789abcdef0123456789abcdef\n",
    );
    fs::set_permissions(&key, fs::Permissions::from_mode(0o644)).unwrap();
    let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("can be read by others"), "{}", run.err);
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(machine.run(&["set-mode", "14", "DMA-FQ"]).code, 0);
    let run = machine.run(&["audit", "verify"]);
    assert!(run.out.contains("the key vouches"), "{}", run.out);
}

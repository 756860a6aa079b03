// SPDX-License-Identifier: GPL-2.0-only
//! Output, compared whole with `expected/`, and JSON, checked against `schema/`.

use std::fs;

use serde_json::Value;

use crate::schema;
use crate::support::{tests_dir, Machine, Run};

/// Compares, or rewrites what is expected.
fn compare(name: &str, found: &str) {
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
fn transcript(run: &Run) -> String {
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
fn both(machine: &Machine, name: &str, of: &str, args: &[&str]) {
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

#[test]
fn help_is_as_documented() {
    let machine = Machine::laptop();
    let help = |args: &[&str]| machine.run(args).out;
    compare("help.txt", &help(&["--help"]));
    compare("help-set-mode.txt", &help(&["set-mode", "--help"]));
    compare("help-recover.txt", &help(&["recover", "--help"]));
}

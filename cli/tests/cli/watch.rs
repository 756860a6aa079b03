// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl watch`, on a machine without the module: what changes is found by looking.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{BufRead, BufReader};
use std::process::{Child, Stdio};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use crate::support::Machine;

fn watch(machine: &Machine, args: &[&str]) -> Child {
    let mut command = machine.command(args);
    command.stdout(Stdio::piped()).spawn().unwrap()
}

fn interrupt(mut child: Child) -> i32 {
    kill(
        Pid::from_raw(i32::try_from(child.id()).unwrap()),
        Signal::SIGINT,
    )
    .unwrap();
    child.wait().unwrap().code().unwrap()
}

#[test]
fn every_group_and_then_what_changes() {
    let machine = Machine::laptop();
    let mut child = watch(&machine, &["--json", "watch"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || -> Value { serde_json::from_str(&lines.next().unwrap().unwrap()).unwrap() };
    let groups = machine.run(&["--json", "list"]).groups();
    for group in groups {
        let entry = next();
        assert_eq!(
            (entry["group"].as_u64(), &entry["outcome"]),
            (Some(group), &"first-seen".into())
        );
    }
    fs::write(machine.type_file(14), "DMA-FQ\n").unwrap();
    let entry = next();
    assert_eq!(entry["group"], 14);
    assert_eq!(entry["new_type"], "DMA-FQ");
    assert_eq!(interrupt(child), 0);
}

#[test]
fn people_are_told_what_it_means() {
    let machine = Machine::laptop();
    let mut child = watch(&machine, &["watch"]);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let groups = machine.run(&["--json", "list"]).groups().len();
    let mut next = || lines.next().unwrap().unwrap();
    assert!(next().starts_with("TIME"));
    (0..groups).for_each(|_| assert!(next().contains("first-seen")));
    fs::write(machine.type_file(14), "DMA-FQ\n").unwrap();
    assert!(next().contains("found by comparison"));
    let meaning = next();
    assert!(meaning.trim().starts_with("lazy: "), "{meaning}");
    assert_eq!(interrupt(child), 0);
}

#[test]
fn when_nobody_reads_any_more_it_ends() {
    let machine = Machine::laptop();
    let mut child = watch(&machine, &["watch"]);
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}

#[test]
fn without_an_iommu_there_is_nothing_to_wait_for() {
    let run = Machine::new("no-iommu").run(&["watch"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("no IOMMU groups"), "{}", run.err);
}

// SPDX-License-Identifier: GPL-2.0-only
//! `bench`: what is measured and what is not, and that the type comes back whatever happens. The disk is a plain file.

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
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

/// Waits until the group has this type.
fn becomes(machine: &Machine, name: &str) {
    let begin = Instant::now();
    while machine.type_of(GROUP).trim() != name {
        let now = machine.type_of(GROUP);
        assert!(
            begin.elapsed() < Duration::from_secs(20),
            "{now} is not {name}"
        );
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// A bench that would take long.
fn start(machine: &Machine) -> Child {
    let mut command = machine.command(&["bench", "--seconds", "60", "01:00.0"]);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

fn signal(pid: u32, signal: Signal) {
    kill(Pid::from_raw(i32::try_from(pid).unwrap()), signal).unwrap();
}

/// The process that puts the type back.
fn guard(machine: &Machine) -> u32 {
    let text = fs::read_to_string(machine.run_dir("bench-12")).unwrap();
    let journal: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(journal["switched"], true, "{text}");
    u32::try_from(journal["guard"].as_u64().unwrap()).unwrap()
}

fn journal_goes(machine: &Machine) {
    let begin = Instant::now();
    while machine.run_dir("bench-12").exists() {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn said(output: Output) -> (Option<i32>, String) {
    (
        output.status.code(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

fn json(run: &Run) -> Value {
    let document = run.json();
    schema::check("bench", &document);
    document
}

/// `(old type, requested)` of each change in the audit log.
fn changes(machine: &Machine) -> Vec<(String, String)> {
    let text = fs::read_to_string(machine.root("var/log/iommuctl/audit.jsonl")).unwrap();
    let records = text
        .lines()
        .map(|l| serde_json::from_str::<Value>(l).unwrap()["event"].clone());
    let closed = records.filter(|r| r["phase"] == "closed");
    let word = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    closed
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
        assert!(found["recommendation"]["text"].is_string());
        let mut switched = changes(&machine);
        assert_eq!(switched.len(), 4, "{switched:?}");
        switched.dedup();
        assert_eq!(switched.len(), 4, "{switched:?}");
        assert!(!machine.run_dir("bench-12").exists());
    }
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
        assert!(!machine.root("run/iommuctl").exists());
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
    let several = machine.run(&["bench", "all"]);
    assert_eq!(several.code, 1, "{several:?}");
    for seconds in ["4", "301", "x"] {
        let run = machine.run(&["bench", "--seconds", seconds, "01:00.0"]);
        assert_eq!(run.code, 2, "{run:?}");
    }
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
}

#[test]
fn whoever_wants_it_strict_is_heeded() {
    let policy =
        "version: 1\nrules:\n  - { name: disks are strict, match: { class: nvme }, type: DMA }\n";
    let machine = laptop().with_module().with_policy(policy);
    let dry = ["--json", "bench", "--dry-run", "01:00.0"];
    let run = machine.run(&dry);
    assert_eq!(run.code, 0, "{run:?}");
    let found = json(&run);
    assert_eq!(found["not_compared"]["reason"], "policy");
    assert!(run.err.contains("disks are strict") && run.err.contains("--allow-against-policy"));
    let run = machine.run(&[&dry[..], &["--allow-against-policy"]].concat());
    assert!(json(&run)["not_compared"].is_null());
    // A policy that is wrong protects nothing else, either.
    machine.file("etc/iommuctl/policy.d/60-wrong.yaml", "version: 9\n");
    let run = machine.run(&dry);
    assert_eq!(json(&run)["not_compared"]["reason"], "policy");
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
fn killed_it_leaves_the_type_as_it_was() {
    for (original, other) in [("DMA", "DMA-FQ"), ("DMA-FQ", "DMA")] {
        let machine = laptop().with_module();
        with_type(&machine, original);
        let mut bench = start(&machine);
        becomes(&machine, other);
        signal(bench.id(), Signal::SIGKILL);
        bench.wait().unwrap();
        becomes(&machine, original);
        journal_goes(&machine);
        assert_eq!(changes(&machine).last().unwrap().1, original);
    }
}

#[test]
fn suspended_it_is_as_good_as_killed() {
    let machine = laptop().with_module();
    with_type(&machine, "DMA");
    let bench = start(&machine);
    becomes(&machine, "DMA-FQ");
    signal(bench.id(), Signal::SIGSTOP);
    becomes(&machine, "DMA");
    signal(bench.id(), Signal::SIGCONT);
    let (code, err) = said(bench.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert_eq!(machine.type_of(GROUP), "DMA\n");
}

#[test]
fn asked_to_stop_it_says_that_the_type_is_back() {
    for asking in [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP] {
        let machine = laptop().with_module();
        let bench = start(&machine);
        becomes(&machine, "DMA");
        signal(bench.id(), asking);
        let (code, err) = said(bench.wait_with_output().unwrap());
        assert_eq!(code, Some(1), "{err}");
        let words = format!("stopped by {asking}; it is DMA-FQ again");
        assert!(err.contains(&words), "{err}");
        assert_eq!(machine.type_of(GROUP), "DMA-FQ\n");
        assert!(!machine.run_dir("bench-12").exists());
    }
}

#[test]
fn without_its_guard_it_puts_the_type_back_itself() {
    let machine = laptop().with_module();
    let bench = start(&machine);
    becomes(&machine, "DMA");
    signal(guard(&machine), Signal::SIGKILL);
    let (code, err) = said(bench.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("has ended; it is DMA-FQ again"), "{err}");
    assert_eq!(machine.type_of(GROUP), "DMA-FQ\n");
    assert!(!machine.run_dir("bench-12").exists());
}

/// Kills both, with the group in the type that is not its own.
fn kill_both(machine: &Machine, original: &str, other: &str) {
    with_type(machine, original);
    let mut bench = start(machine);
    becomes(machine, other);
    // The guard first would be noticed, and the bench first is what it is for: so neither can do anything any more.
    signal(bench.id(), Signal::SIGSTOP);
    signal(guard(machine), Signal::SIGKILL);
    signal(bench.id(), Signal::SIGKILL);
    bench.wait().unwrap();
    assert_eq!(machine.type_of(GROUP).trim(), other);
}

#[test]
fn when_both_are_killed_recover_puts_it_back() {
    for (original, other) in [("DMA-FQ", "DMA"), ("DMA", "DMA-FQ")] {
        let machine = laptop().with_module();
        kill_both(&machine, original, other);
        let dry = machine.run(&["recover", "--dry-run"]);
        let words = format!("would become {original} again");
        assert!(dry.out.contains(&words), "{dry:?}");
        let run = machine.run(&["--json", "recover"]);
        assert_eq!(run.code, 0, "{run:?}");
        schema::check("recover", &run.json());
        assert_eq!(run.json()["groups"][0]["interrupted"], "bench");
        assert_eq!(run.json()["groups"][0]["type"], original);
        assert_eq!(machine.type_of(GROUP).trim(), original);
        assert_eq!(changes(&machine).last().unwrap().1, original);
        let again = machine.run(&["recover"]);
        assert!(again.out.contains("Nothing was left behind"), "{again:?}");
    }
}

#[test]
fn whoever_changes_something_next_makes_it_strict_again_first() {
    let machine = laptop().with_module();
    kill_both(&machine, "DMA", "DMA-FQ");
    // A lockdown is not to remember that the group was lazy.
    let run = machine.run(&["lockdown"]);
    assert!(
        run.err
            .contains("a bench of group 12 was interrupted earlier: it is DMA again"),
        "{run:?}"
    );
    let record = fs::read_to_string(machine.run_dir("lockdown.json")).unwrap();
    assert!(!record.contains("0000:01:00.0"), "{record}");
    // The other way about, nothing is made lazy without being asked for, and least of all now.
    let machine = laptop().with_module();
    kill_both(&machine, "DMA-FQ", "DMA");
    let run = machine.run(&["lockdown"]);
    assert!(
        run.err.contains("`iommuctl recover` finishes it"),
        "{run:?}"
    );
    let run = machine.run(&["recover"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("a lockdown is in force"), "{run:?}");
    assert_eq!(machine.type_of(GROUP).trim(), "DMA");
    machine.run(&["release"]);
    assert_eq!(machine.run(&["recover"]).code, 0);
    assert_eq!(machine.type_of(GROUP).trim(), "DMA-FQ");
}

#[test]
fn what_somebody_else_changes_is_left_so() {
    let machine = laptop().with_module();
    let bench = start(&machine);
    becomes(&machine, "DMA");
    std::thread::sleep(Duration::from_millis(200));
    with_type(&machine, "identity");
    let (code, err) = said(bench.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert!(
        err.contains("somebody else made the group identity"),
        "{err}"
    );
    assert_eq!(machine.type_of(GROUP), "identity\n");
    assert!(!machine.run_dir("bench-12").exists());
}

#[test]
fn whoever_waits_comes_first() {
    let machine = laptop().with_module();
    let bench = start(&machine);
    becomes(&machine, "DMA");
    let begin = Instant::now();
    let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(begin.elapsed() < Duration::from_secs(20));
    let (code, err) = said(bench.wait_with_output().unwrap());
    assert_eq!(code, Some(1), "{err}");
    assert!(err.contains("comes first; it is DMA-FQ again"), "{err}");
    assert_eq!(machine.type_of(GROUP), "DMA-FQ\n");
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
        "##",
    ] {
        assert!(text.contains(words), "{words} is missing: {text}");
    }
    assert!(text.is_ascii(), "{text}");
    let text = people("C.UTF-8");
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
    compare("help-bench.txt", &machine.run(&["bench", "--help"]).out);
    let missing = Machine::laptop().with_module();
    let run = missing.run(&["bench", "01:00.0"]);
    compare("bench-no-node.txt", &transcript(&run));
}

// SPDX-License-Identifier: GPL-2.0-only
//! `bench`: the type comes back, whatever is killed, and only what the bench changed.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::process::{Child, Output, Stdio};
use std::time::{Duration, Instant};

use nix::fcntl::{fcntl, FcntlArg};
use nix::libc;
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use super::{changes, closed, laptop, with_type, GROUP};
use crate::schema;
use crate::support::Machine;

/// What each change in the audit log was made for; nothing, if for itself.
fn causes(machine: &Machine) -> Vec<String> {
    let cause = |r: &Value| r["who"]["cause"].as_str().unwrap_or_default().to_owned();
    closed(machine).iter().map(cause).collect()
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

fn is_locked(file: &fs::File) -> bool {
    let mut found = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found)).unwrap();
    found.l_type != libc::F_UNLCK as libc::c_short
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
    // The guard is no child of ours, and a child of its own that writes dies a moment later.
    let lock = fs::File::open(machine.run_dir("lock")).unwrap();
    let begin = Instant::now();
    while is_locked(&lock) {
        assert!(begin.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(5));
    }
    assert_eq!(machine.type_of(GROUP).trim(), other);
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
fn suspended_it_holds_up_nobody() {
    let machine = laptop().with_module();
    with_type(&machine, "DMA");
    let mut bench = start(&machine);
    becomes(&machine, "DMA-FQ");
    signal(bench.id(), Signal::SIGSTOP);
    let begin = Instant::now();
    let run = machine.run(&["lockdown"]);
    let took = begin.elapsed();
    signal(bench.id(), Signal::SIGKILL);
    bench.wait().unwrap();
    assert!(run.code == 0 || run.code == 4, "{run:?}");
    // A suspended one is waited for for ten seconds where nobody else waits.
    assert!(took < Duration::from_secs(8), "{took:?}");
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

#[test]
fn when_both_are_killed_recover_puts_it_back() {
    for (original, other) in [("DMA-FQ", "DMA"), ("DMA", "DMA-FQ")] {
        let machine = laptop().with_module();
        kill_both(&machine, original, other);
        let status = machine.run(&["status"]);
        let words = format!(
            "bench       interrupted; group 12 was {original}, and is {other}; `iommuctl recover` sees to it"
        );
        assert!(status.out.contains(&words), "{status:?}");
        let status = machine.run(&["--json", "status"]).json();
        schema::check("status", &status);
        let left = serde_json::json!([
            { "group": 12, "interrupted": "bench", "old_type": original, "type": other }
        ]);
        assert_eq!(status["interrupted"], left);
        // By anybody.
        with_type(&machine, original);
        let status = machine.run(&["status"]);
        assert!(
            status
                .out
                .contains(&format!("group 12 is {original}, as it was;")),
            "{status:?}"
        );
        with_type(&machine, other);
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
        assert_eq!(causes(&machine).last().unwrap(), "bench");
        let again = machine.run(&["recover"]);
        assert!(again.out.contains("Nothing was left behind"), "{again:?}");
        let status = machine.run(&["--json", "status"]).json();
        assert_eq!(status["interrupted"], serde_json::json!([]));
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
fn what_else_is_done_to_the_group_has_another_cause() {
    let machine = laptop().with_module();
    kill_both(&machine, "DMA", "DMA-FQ");
    assert_eq!(machine.run(&["set-mode", "12", "DMA-FQ"]).code, 0);
    let both = changes(&machine);
    let [.., back, asked] = &both[..] else {
        panic!("{both:?}");
    };
    assert_eq!((back.1.as_str(), asked.1.as_str()), ("DMA", "DMA-FQ"));
    let causes = causes(&machine);
    assert_eq!(causes[causes.len() - 2..], ["bench", ""]);
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
fn a_second_one_is_refused_and_the_first_goes_on() {
    let machine = laptop().with_module();
    let mut bench = start(&machine);
    becomes(&machine, "DMA");
    // By whatever name, of whatever disk, and whether it would wait or not.
    for args in [
        &["bench", "--seconds", "5", "01:00.0"][..],
        &["bench", "--lock-timeout", "0", "12"],
        &["bench", "0000:04:00.0"],
        &["bench", "--dry-run", "01:00.0"],
    ] {
        let run = machine.run(args);
        assert_eq!((run.code, run.out.as_str()), (3, ""), "{run:?}");
        let first = format!("another bench is running, process {} (", bench.id());
        let way_out = format!("`kill -INT {}` ends it", bench.id());
        for words in [&first, &way_out, "/dev/nvme", "--seconds 60 01:00.0"] {
            assert!(run.err.contains(words), "{words}: {}", run.err);
        }
    }
    let run = machine.run(&["--json", "bench", "01:00.0"]);
    schema::check("error", &run.json());
    assert_eq!(run.json()["error"]["exit_code"], 3);
    // It is neither ended, nor told to come to an end.
    becomes(&machine, "DMA-FQ");
    becomes(&machine, "DMA");
    assert!(bench.try_wait().unwrap().is_none());
    // Nor is it taken for one that was interrupted.
    let status = machine.run(&["--json", "status"]).json();
    assert_eq!(status["interrupted"], serde_json::json!([]));
    signal(bench.id(), Signal::SIGINT);
    let (_, err) = said(bench.wait_with_output().unwrap());
    assert!(err.contains("stopped by SIGINT"), "{err}");
    let run = machine.run(&["bench", "--dry-run", "01:00.0"]);
    assert_eq!(run.code, 0, "{run:?}");
}

#[test]
fn of_several_that_start_together_one_runs() {
    // One that measures only the present type is in the way of another, too.
    for (machine, done) in [(laptop().with_module(), 0), (laptop(), 4)] {
        let spawn = |_| {
            let mut command = machine.command(&["bench", "--seconds", "5", "01:00.0"]);
            command.stdout(Stdio::null()).stderr(Stdio::piped());
            command.spawn().unwrap()
        };
        let benches: Vec<Child> = (0..4).map(spawn).collect();
        let ends = benches.into_iter().map(|b| b.wait_with_output().unwrap());
        let mut codes: Vec<Option<i32>> = ends.map(|end| said(end).0).collect();
        codes.sort_by_key(|code| *code == Some(3));
        assert_eq!(codes, [Some(done), Some(3), Some(3), Some(3)]);
    }
}

#[test]
fn one_that_was_killed_does_not_run() {
    // Whether its guard was killed, too, and left a journal, or has put the type back.
    let machine = laptop().with_module();
    kill_both(&machine, "DMA", "DMA-FQ");
    let run = machine.run(&["bench", "--seconds", "5", "01:00.0"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("it is DMA again"), "{}", run.err);
    let mut bench = start(&machine);
    becomes(&machine, "DMA-FQ");
    signal(bench.id(), Signal::SIGKILL);
    bench.wait().unwrap();
    let run = machine.run(&["bench", "--seconds", "5", "01:00.0"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(machine.type_of(GROUP), "DMA\n");
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

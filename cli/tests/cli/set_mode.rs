// SPDX-License-Identifier: GPL-2.0-only
//! `set-mode`: what is written, what is not, and what is said about it.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;

use nix::libc;

use crate::support::Machine;

#[test]
fn relax_is_written_and_read_back() {
    let machine = Machine::laptop();
    let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{}", run.out);
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
    assert!(
        run.out.contains("changed") && run.out.contains("sysfs"),
        "{}",
        run.out
    );
}

#[test]
fn same_type_is_success_and_is_not_written() {
    let machine = Machine::laptop();
    // Without its newline, which a write would put back.
    fs::write(machine.type_file(14), "DMA").unwrap();
    let run = machine.run(&["set-mode", "14", "DMA"]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("already DMA"), "{}", run.out);
    assert_eq!(machine.type_of(14), "DMA");
}

#[test]
fn tighten_is_refused_without_the_module_and_done_with_it() {
    let machine = Machine::laptop();
    let run = machine.run(&["set-mode", "driver:e1000e", "DMA"]);
    assert_eq!(run.code, 3);
    for word in [
        "0000:00:1f.6 (e1000e)",
        "modprobe iommu_live",
        "iommu.strict=1",
    ] {
        assert!(run.err.contains(word), "{word} is missing: {}", run.err);
    }
    assert_eq!(machine.type_of(10), "DMA-FQ\n");

    let machine = machine.with_module();
    let run = machine.run(&["--json", "set-mode", "driver:e1000e", "DMA"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(machine.type_of(10), "DMA\n");
    let result = run.json()["results"][0].clone();
    assert_eq!(result["route"], "module");
    assert_eq!(result["old_type"], "DMA-FQ");
    assert_eq!(result["new_type"], "DMA");
    assert!(result["milliseconds"].is_number());
}

#[test]
fn whoever_asks_for_a_rebind_hears_that_none_is_needed() {
    let machine = Machine::laptop();
    let hint = "leave out `--route rebind`";
    let rebind = ["set-mode", "--dry-run", "--route", "rebind"];
    // Relaxing is live, and giving up translation is not.
    let run = machine.run(&[&rebind[..], &["14", "DMA-FQ"]].concat());
    assert!(run.err.contains(hint), "{run:?}");
    let run = machine.run(&[&rebind[..], &["8", "identity"]].concat());
    assert!(!run.err.contains(hint), "{run:?}");
    let run = machine.run(&["set-mode", "--dry-run", "14", "DMA-FQ"]);
    assert!(!run.err.contains(hint), "{run:?}");
}

#[test]
fn a_rebind_that_would_be_refused_is_not_advised() {
    let machine = Machine::laptop();
    let advised = "`set-mode --route rebind`, or";
    let run = machine.run(&["set-mode", "8", "identity"]);
    assert!(run.err.contains(advised), "{run:?}");
    let run = machine.run(&["set-mode", "/", "identity"]);
    assert!(!run.err.contains(advised), "{run:?}");
    assert!(
        run.err
            .contains("would be refused as well: 0000:01:00.0 holds")
            && run.err.contains("mounted at /"),
        "{run:?}"
    );
}

#[test]
fn external_device_is_not_relaxed() {
    for machine in [Machine::laptop(), Machine::laptop().with_module()] {
        for request in ["DMA-FQ", "identity"] {
            let run = machine.run(&["set-mode", "16", request]);
            assert_eq!(run.code, 3, "{run:?}");
            assert!(run.err.contains("plugged in from outside"), "{}", run.err);
            assert_eq!(machine.type_of(16), "DMA\n");
        }
    }
}

#[test]
fn many_groups_at_once_each_only_once() {
    let machine = Machine::laptop().with_module();
    let run = machine.run(&[
        "--json",
        "set-mode",
        "0",
        "00:02.0",
        "class:network",
        "12",
        "8",
        "DMA",
    ]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.groups(), [0, 8, 10, 12, 14]);
    for group in run.groups() {
        assert_eq!(machine.type_of(u32::try_from(group).unwrap()), "DMA\n");
    }
}

#[test]
fn partly_done_is_4() {
    let machine = Machine::laptop();
    let run = machine.run(&["set-mode", "14", "16", "DMA-FQ"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
    assert_eq!(machine.type_of(16), "DMA\n");
}

#[test]
fn nothing_is_done_if_a_target_is_wrong() {
    let machine = Machine::laptop();
    let run = machine.run(&["set-mode", "14", "99", "DMA-FQ"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains("nothing found for group 99"),
        "{}",
        run.err
    );
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn dry_run_writes_nothing() {
    let machine = Machine::laptop();
    let run = machine.run(&["set-mode", "--dry-run", "14", "DMA-FQ"]);
    assert_eq!(run.code, 0);
    assert!(run.out.contains("would become DMA-FQ"), "{}", run.out);
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn unbound_group_takes_identity_and_auto() {
    let machine = Machine::laptop();
    assert_eq!(machine.run(&["set-mode", "17", "identity"]).code, 0);
    assert_eq!(machine.type_of(17), "identity\n");
    // The file now says `auto`, as no kernel would: read back and reported, whatever it is.
    let run = machine.run(&["--json", "set-mode", "17", "auto"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.json()["results"][0]["new_type"], "auto");
}

#[test]
fn read_only_attribute_is_not_permitted() {
    if nix::unistd::geteuid().is_root() {
        // Root may write to any file, whatever its mode: the virtual machine tests cover the rest.
        eprintln!("skipped: root is not kept out by file modes");
        return;
    }
    let machine = Machine::laptop();
    fs::set_permissions(machine.type_file(14), fs::Permissions::from_mode(0o444)).unwrap();
    let run = machine.run(&["set-mode", "14", "DMA-FQ"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("not permitted"), "{}", run.err);
}

/// The child that writes, at work below a folder, and its answers to `lines`.
fn child(folder: &std::path::Path, lines: &[&str]) -> (Vec<String>, Option<i32>) {
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_iommuctl"));
    child.arg("write-texts");
    child.stdout(fs::File::open(folder).unwrap());
    child.stderr(std::os::fd::OwnedFd::from(theirs));
    let mut running = child.spawn().unwrap();
    drop(child);
    for line in lines {
        (&ours).write_all(line.as_bytes()).unwrap();
    }
    ours.shutdown(std::net::Shutdown::Write).unwrap();
    let answers = BufReader::new(&ours).lines().map_while(Result::ok);
    let answers = answers.collect();
    (answers, running.wait().unwrap().code())
}

#[test]
fn child_says_errno_of_each_write_and_ends_when_nobody_asks() {
    let (errnos, code) = child(
        std::path::Path::new("/dev"),
        &[
            "{\"path\":\"full\",\"text\":\"DMA\"}\n",
            "{\"path\":\"null\",\"text\":\"DMA\"}\n",
            "{\"path\":\"no/where\",\"text\":\"DMA\"}\n",
        ],
    );
    let errnos: Vec<&str> = errnos.iter().filter_map(|a| a.split(' ').next()).collect();
    let (full, missing) = (libc::ENOSPC.to_string(), libc::ENOENT.to_string());
    assert_eq!(errnos, [full.as_str(), "0", &missing]);
    assert_eq!(code, Some(0));
}

#[test]
fn child_does_nothing_that_it_was_not_told_whole() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("type");
    fs::write(&file, "DMA-FQ\n").unwrap();
    let outside = "{\"path\":\"../type\",\"text\":\"DMA\"}\n";
    let (answers, _) = child(&folder.path().join("."), &[outside]);
    assert!(!answers[0].starts_with("0 "), "{answers:?}");
    // Whoever asked was killed in the middle of the word.
    let (answers, code) = child(folder.path(), &["{\"path\":\"type\",\"text\":\"DMA\"}"]);
    assert_eq!((answers.len(), code), (0, Some(1)));
    assert_eq!(fs::read_to_string(&file).unwrap(), "DMA-FQ\n");
    let (answers, _) = child(folder.path(), &["{\"path\":\"type\",\"text\":\"DMA\"}\n"]);
    assert!(answers[0].starts_with("0 "), "{answers:?}");
    assert_eq!(fs::read_to_string(&file).unwrap(), "DMA\n");
}

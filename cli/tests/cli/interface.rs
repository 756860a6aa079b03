// SPDX-License-Identifier: GPL-2.0-only
//! What scripts and shells rely on: exit codes, streams, colours, completions and man pages.

use std::fs;
use std::process::Stdio;

use crate::support::Machine;

#[test]
fn usage_errors_are_2() {
    let machine = Machine::laptop();
    let cases: &[&[&str]] = &[
        &[],
        &["frobnicate"],
        &["set-mode", "12"],
        &["set-mode", "12", "strict"],
        &["set-mode", "class:", "DMA"],
        &["set-mode", "--timeout", "0", "12", "DMA"],
        &["list", "--class", "nonsense"],
        // An empty list would look like good news.
        &["list", "--type", "DMAFQ"],
    ];
    for args in cases {
        assert_eq!(machine.run(args).code, 2, "{args:?}");
    }
    let run = machine.run(&["set-mode", "12", "strict"]);
    assert!(
        run.err.contains("DMA, DMA-FQ, identity, auto"),
        "{}",
        run.err
    );
    assert!(run.err.contains("'DMA'"), "no suggestion: {}", run.err);
    let run = machine.run(&["set-mode", "DMA", "12"]);
    assert!(run.err.contains("the type comes last"), "{}", run.err);
}

#[test]
fn quiet_says_nothing_of_success() {
    let machine = Machine::laptop();
    let run = machine.run(&["-q", "set-mode", "14", "DMA-FQ"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    let run = machine.run(&["-q", "set-mode", "12", "DMA"]);
    assert_eq!((run.code, run.out.as_str()), (3, ""));
    assert!(run.err.starts_with("iommuctl: group 12: "), "{}", run.err);
}

#[test]
fn colour_only_when_asked_for_or_on_a_terminal() {
    let machine = Machine::laptop();
    assert!(!machine.run(&["list"]).out.contains('\x1b'));
    assert!(machine
        .run(&["--color", "always", "list"])
        .out
        .contains('\x1b'));
    assert!(!machine
        .run(&["--color", "never", "list"])
        .out
        .contains('\x1b'));
}

#[test]
fn broken_pipe_is_no_error() {
    let machine = Machine::laptop();
    let (reader, writer) = nix::unistd::pipe().unwrap();
    drop(reader);
    let mut command = machine.command(&["--json", "show", "all"]);
    let output = command
        .stdout(writer)
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8(output.stderr).unwrap(), "");
}

#[test]
fn completions_know_commands_and_types() {
    let machine = Machine::laptop();
    for shell in ["bash", "zsh", "fish"] {
        let run = machine.run(&["completions", shell]);
        assert_eq!(run.code, 0);
        assert!(run.out.contains("set-mode"), "{shell}");
        assert!(run.out.contains("DMA-FQ"), "{shell}");
    }
}

#[test]
fn man_pages_cover_every_command_and_the_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    let machine = Machine::laptop();
    let run = machine.run(&["man", dir.path().to_str().unwrap()]);
    assert_eq!(run.code, 0, "{run:?}");
    let mut names: Vec<String> = fs::read_dir(dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    assert_eq!(
        names,
        [
            "iommu_live.4",
            "iommuctl-audit-log.8",
            "iommuctl-audit-record.8",
            "iommuctl-audit-report.8",
            "iommuctl-audit-verify.8",
            "iommuctl-audit.5",
            "iommuctl-audit.8",
            "iommuctl-bench.8",
            "iommuctl-completions.8",
            "iommuctl-defaults-set.8",
            "iommuctl-defaults-undo.8",
            "iommuctl-defaults.8",
            "iommuctl-doctor.8",
            "iommuctl-list.8",
            "iommuctl-lockdown.8",
            "iommuctl-man.8",
            "iommuctl-metrics.8",
            "iommuctl-policy-apply.8",
            "iommuctl-policy-check.8",
            "iommuctl-policy-diff.8",
            "iommuctl-policy-explain.8",
            "iommuctl-policy-generate.8",
            "iommuctl-policy-plan.8",
            "iommuctl-policy-schema.8",
            "iommuctl-policy.5",
            "iommuctl-policy.8",
            "iommuctl-rebind.7",
            "iommuctl-recover.8",
            "iommuctl-release.8",
            "iommuctl-set-mode.8",
            "iommuctl-show.8",
            "iommuctl-status.8",
            "iommuctl-watch.8",
            "iommuctl.8",
        ]
    );
    // What a page refers to is there.
    for name in &names {
        let text = fs::read_to_string(dir.path().join(name)).unwrap();
        for word in text.replace("\\-", "-").split_whitespace() {
            let word = word.trim_end_matches(['.', ',']);
            if let Some(page) = word.strip_suffix(')').filter(|w| w.starts_with("iommuctl")) {
                let page = page.replace('(', ".");
                assert!(names.contains(&page), "{name} refers to {page}");
            }
        }
    }
    let text = fs::read_to_string(dir.path().join("iommuctl-bench.8")).unwrap();
    for words in [
        ".SH DEVICES",
        ".SH FIGURES",
        ".SH EXIT CODES",
        ".SH MEANWHILE",
    ] {
        assert_eq!(text.matches(words).count(), 1, "{words}: {text}");
    }
    let text = fs::read_to_string(dir.path().join("iommuctl-set-mode.8")).unwrap();
    for words in [
        "partly done",
        "/dev/nvme0n1",
        "driver:nvme",
        r"\-\-allow\-mounted",
        r"[\fB\-\-route\fR \fIROUTE\fR]",
        r"\fITARGET\fR... \fITYPE\fR",
    ] {
        assert!(text.contains(words), "{words} is missing");
    }
}

#[test]
fn a_root_that_is_not_there_is_named() {
    let machine = Machine::laptop();
    fs::remove_dir_all(machine.sys("")).unwrap();
    let run = machine.run(&["list"]);
    assert_eq!(run.code, 1);
    let text = "iommuctl: Failed to open /sys: No such file or directory\n";
    assert_eq!(run.err, text);
}

#[test]
fn only_flags_say_where_the_machine_is() {
    let machine = Machine::laptop();
    let mut command = machine.command(&["list"]);
    for name in ["ROOT", "SYSFS_ROOT", "PROC_ROOT", "PCI_IDS"] {
        command.env(format!("IOMMUCTL_{name}"), "/nonexistent");
    }
    let output = command.output().unwrap();
    assert!(output.status.success(), "{output:?}");
    assert!(!output.stdout.is_empty());
}

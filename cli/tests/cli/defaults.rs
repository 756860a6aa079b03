// SPDX-License-Identifier: GPL-2.0-only
//! The kernel's defaults: what they are, and changing them through the distribution's helper.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::fs;
use std::os::unix::fs::PermissionsExt;

use crate::schema;
use crate::support::Machine;

/// Puts a helper there that notes how it was called, and ends with `code`.
fn helper(machine: &Machine, path: &str, code: i32) {
    let log = machine.root("helper.log");
    let script = format!("#!/bin/sh\necho \"$*\" >> {}\nexit {code}\n", log.display());
    let program = machine.file(path, &script);
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// How the helper was called, one line each time.
fn calls(machine: &Machine) -> String {
    fs::read_to_string(machine.root("helper.log")).unwrap_or_default()
}

fn debian(code: i32) -> Machine {
    let machine = Machine::laptop();
    machine.file("etc/default/grub.d/init-select.cfg", "");
    helper(&machine, "usr/sbin/update-grub", code);
    machine
}

const GRUB: &str = "etc/default/grub.d/zz-iommuctl.cfg";

#[test]
fn grub_gets_a_file_of_its_own_and_undo_takes_it_away() {
    let machine = debian(0);
    let run = machine.run(&["defaults", "set", "strict"]);
    assert_eq!(run.code, 0, "{run:?}");
    let text = fs::read_to_string(machine.root(GRUB)).unwrap();
    assert!(
        text.contains("iommu.passthrough=0 iommu.strict=1\"\n"),
        "{text}"
    );
    assert_eq!(calls(&machine), "\n");
    // The shell that reads it sees our words last.
    let shown = std::process::Command::new("sh")
        .arg("-c")
        .arg(format!(
            "GRUB_CMDLINE_LINUX_DEFAULT=iommu.strict=0; . {}; echo $GRUB_CMDLINE_LINUX_DEFAULT",
            machine.root(GRUB).display()
        ))
        .output()
        .unwrap();
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.starts_with("iommu.strict=0 ") && shown.ends_with("iommu.strict=1\n"));
    let run = machine.run(&["defaults", "undo"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!machine.root(GRUB).exists());
    assert_eq!(calls(&machine), "\n\n");
    // Again, and nothing is left to do.
    let run = machine.run(&["defaults", "undo"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("nothing to undo"), "{}", run.out);
    assert_eq!(calls(&machine), "\n\n");
}

#[test]
fn what_is_set_for_the_next_boot_is_shown() {
    let kernel_install = Machine::laptop();
    kernel_install.file("etc/kernel/cmdline", "root=/dev/sda1 iommu.strict=0\n");
    helper(&kernel_install, "usr/bin/kernel-install", 0);
    for machine in [debian(0), kernel_install] {
        let next = |machine: &Machine| {
            let document = machine.run(&["--json", "defaults"]).json();
            schema::check("defaults", &document);
            document["next_boot"].clone()
        };
        assert!(next(&machine).is_null());
        assert_eq!(machine.run(&["defaults", "set", "strict"]).code, 0);
        assert_eq!(next(&machine), "iommu.passthrough=0 iommu.strict=1");
        let shown = machine.run(&["defaults"]).out;
        assert!(shown.contains("next boot        iommu.passthrough=0 iommu.strict=1"));
        assert_eq!(machine.run(&["defaults", "undo"]).code, 0);
        assert!(next(&machine).is_null());
    }
}

#[test]
fn dry_run_says_and_does_nothing() {
    let machine = debian(0);
    let run = machine.run(&["defaults", "set", "--dry-run", "lazy"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("run /usr/sbin/update-grub"), "{}", run.out);
    assert!(run.out.contains("iommu.strict=0"), "{}", run.out);
    assert!(!machine.root(GRUB).exists());
    assert_eq!(calls(&machine), "");
}

#[test]
fn a_helper_that_fails_leaves_the_files_as_they_were() {
    let machine = debian(1);
    let run = machine.run(&["defaults", "set", "strict"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("put back"), "{}", run.err);
    assert!(!machine.root(GRUB).exists());
}

#[test]
fn kernel_install_gets_its_line_back() {
    let machine = Machine::laptop();
    let line = machine.file("etc/kernel/cmdline", "root=/dev/sda1 iommu.strict=0\n");
    helper(&machine, "usr/bin/kernel-install", 0);
    for wanted in ["strict", "passthrough"] {
        let run = machine.run(&["defaults", "set", wanted]);
        assert_eq!(run.code, 0, "{run:?}");
    }
    let text = fs::read_to_string(&line).unwrap();
    assert!(
        text.ends_with("iommuctl.defaults=passthrough iommu.passthrough=1\n"),
        "{text}"
    );
    assert_eq!(calls(&machine), "add-all\nadd-all\n");
    assert_eq!(machine.run(&["defaults", "undo"]).code, 0);
    let text = fs::read_to_string(&line).unwrap();
    assert_eq!(text, "root=/dev/sda1 iommu.strict=0\n");
}

#[test]
fn grubby_is_not_asked_to_replace_what_others_set() {
    let machine = Machine::laptop();
    helper(&machine, "usr/sbin/grubby", 0);
    assert_eq!(machine.run(&["defaults", "set", "strict"]).code, 0);
    assert_eq!(machine.run(&["defaults", "undo"]).code, 0);
    let log = calls(&machine);
    assert!(
        log.starts_with("--update-kernel=ALL --args=iommuctl.defaults=strict "),
        "{log}"
    );
    assert!(log.contains("--remove-args=iommuctl.defaults iommu.passthrough iommu.strict"));
    fs::write(machine.root("proc/cmdline"), "quiet iommu.strict=0\n").unwrap();
    let run = machine.run(&["defaults", "set", "strict"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("iommu.strict=0"), "{}", run.err);
}

#[test]
fn without_a_helper_the_words_are_said() {
    let machine = Machine::laptop();
    let run = machine.run(&["defaults", "set", "strict"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains("iommu.passthrough=0 iommu.strict=1"),
        "{}",
        run.err
    );
}

#[test]
fn platform_opt_in_is_read_from_firmware() {
    let machine = Machine::laptop();
    let table = "sys/firmware/acpi/tables/DMAR";
    let shown = || machine.run(&["--json", "defaults"]).json()["platform_opt_in"].clone();
    assert!(shown().is_null());
    machine.file(table, "");
    for (flags, wanted) in [(0b101, true), (0b001, false)] {
        let mut bytes = vec![0; 48];
        bytes[37] = flags;
        fs::write(machine.root(table), bytes).unwrap();
        assert_eq!(shown(), wanted);
    }
}

#[test]
fn no_helper_below_another_root_is_run() {
    let machine = debian(0);
    let mut command = machine.command_without_programs();
    let output = command
        .args(["defaults", "set", "strict"])
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("not run below another root"), "{said}");
    assert_eq!(calls(&machine), "");
    assert!(!machine.root(GRUB).exists());
}

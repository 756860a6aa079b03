// SPDX-License-Identifier: GPL-2.0-only
//! Trees that no kernel makes. Nothing in them may reach the terminal, be followed, or hide the rest.

use std::fs;
use std::os::unix::fs::symlink;

use crate::support::Machine;

#[test]
fn bad_attributes_do_not_hide_the_rest() {
    let machine = Machine::laptop();
    let nvme = "devices/pci0000:00/0000:00:06.0/0000:01:00.0";
    fs::remove_file(machine.type_file(0)).unwrap();
    fs::write(machine.type_file(1), "").unwrap();
    fs::write(machine.type_file(5), vec![b'A'; 1_000_000]).unwrap();
    fs::write(machine.type_file(8), b"\x1b]0;owned\x07\n").unwrap();
    fs::write(machine.type_file(10), [0xff, 0x00, 0xfe]).unwrap();
    fs::write(machine.sys(&format!("{nvme}/vendor")), "0xnonsense\n").unwrap();
    fs::write(machine.sys(&format!("{nvme}/class")), "").unwrap();

    let run = machine.run(&["list"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(
        !run.out.contains('\x1b') && !run.err.contains('\x1b'),
        "{run:?}"
    );
    assert!(!run.out.contains("AAAA"), "{run:?}");
    assert!(run.out.contains("0000:01:00.0"), "{run:?}");
    for group in [5, 8, 10] {
        let file = format!("/sys/kernel/iommu_groups/{group}/type");
        assert!(run.err.contains(&file), "{file} is not named: {}", run.err);
    }

    // A type that is not known is not changed either.
    let run = machine.run(&["set-mode", "0", "1", "5", "8", "10", "DMA"]);
    assert_eq!(run.code, 3, "{run:?}");
}

#[test]
fn links_out_of_the_tree_are_not_followed() {
    let machine = Machine::laptop();
    let outside = tempfile::tempdir().unwrap();
    let victim = outside.path().join("type");
    fs::write(&victim, "DMA\n").unwrap();

    // The attribute itself, a whole group, a device, a driver.
    fs::remove_file(machine.type_file(14)).unwrap();
    symlink(&victim, machine.type_file(14)).unwrap();
    symlink(outside.path(), machine.sys("kernel/iommu_groups/77")).unwrap();
    let devices = machine.sys("kernel/iommu_groups/12/devices");
    symlink("/etc", devices.join("0000:66:00.0")).unwrap();
    let driver = machine.sys("devices/pci0000:00/0000:00:02.0/driver");
    fs::remove_file(&driver).unwrap();
    symlink("../../../../../../../../../../../etc/passwd", &driver).unwrap();

    let run = machine.run(&["list"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("leads out of the tree"), "{run:?}");
    assert!(
        !run.out.contains("passwd") && !run.out.contains("0000:66"),
        "{run:?}"
    );

    assert_eq!(machine.run(&["set-mode", "14", "DMA-FQ"]).code, 3);
    assert_eq!(machine.run(&["set-mode", "77", "DMA-FQ"]).code, 1);
    assert_eq!(fs::read_to_string(&victim).unwrap(), "DMA\n");
}

#[test]
fn pipes_and_directories_in_place_of_files_do_not_hang() {
    let machine = Machine::laptop();
    fs::remove_file(machine.type_file(14)).unwrap();
    nix::unistd::mkfifo(
        &machine.type_file(14),
        nix::sys::stat::Mode::from_bits_truncate(0o600),
    )
    .unwrap();
    fs::remove_file(machine.type_file(17)).unwrap();
    fs::create_dir(machine.type_file(17)).unwrap();
    let run = machine.run(&["list"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(
        run.err.matches("is not a regular file").count(),
        2,
        "{run:?}"
    );
}

#[test]
fn names_from_a_hostile_database_are_cleaned() {
    let machine = Machine::laptop();
    let database = machine.sys("pci.ids");
    fs::write(&database, "144d  Sam\x1b[31msung\u{202e}\n").unwrap();
    let mut command = machine.bare_command();
    command.arg("--pci-ids").arg(&database).arg("list");
    let text = String::from_utf8(command.output().unwrap().stdout).unwrap();
    assert!(text.contains("Sam[31msung device a808"), "{text}");
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text}");
}

#[test]
fn a_line_of_the_module_that_makes_no_sense_is_named() {
    let machine = Machine::laptop().with_module().with_cleanups(1);
    let good = "group=14 step=restored strict_since_ns=0 late_comers=0 collected=0 given_up=0";
    let path = "sys/kernel/iommu_live/cleanups";
    machine.file(path, &format!("group=x step=armed\n{good}\n"));
    let run = machine.run(&["status"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("group 14: lazy again"), "{run:?}");
    assert!(run.err.contains("iommu_live/cleanups, line 1: "), "{run:?}");
    // Nothing under way is an empty file; a page is all the kernel has.
    machine.file(path, "");
    let run = machine.run(&["--json", "status"]);
    assert_eq!(
        run.json()["module"]["cleanups"]["groups"],
        serde_json::json!([])
    );
    machine.file(path, &format!("{good}\n").repeat(2000));
    let run = machine.run(&["status"]);
    assert!(run.err.contains("is longer than"), "{run:?}");
}

// SPDX-License-Identifier: GPL-2.0-only
//! What each kind of target stands for.

use std::os::unix::fs::symlink;

use nix::errno::Errno;
use nix::sys::stat::{makedev, mknod, Mode, SFlag};

use crate::support::Machine;

#[test]
fn each_kind_of_target_finds_its_group() {
    let machine = Machine::laptop();
    let cases: &[(&[&str], &[u64])] = &[
        (&["12"], &[12]),
        (&["group:12"], &[12]),
        (&["01:00.0"], &[12]),
        (&["0000:01:00.0"], &[12]),
        (&["enp0s31f6"], &[10]),
        // A disk, a partition, the shared disk of NVMe multipath, and LVM, as the kernel calls them.
        (&["nvme0n1"], &[12]),
        (&["nvme0n1p2"], &[12]),
        (&["nvme1n1"], &[16]),
        (&["dm-0"], &[12]),
        // A bridge over an interface.
        (&["net:br0"], &[10]),
        (&["driver:nvme"], &[12, 16]),
        (&["class:nvme"], &[12, 16]),
        (&["class:0c"], &[8, 10]),
        // LVM on a partition, a partition, and one mount on top of another.
        (&["/"], &[12]),
        (&["/boot/efi"], &[12]),
        (&["/fixture/covered"], &[16]),
        // In the fixture, the number of this node belongs to a graphics card.
        (&["/dev/zero"], &[0]),
        (&["12", "01:00.0", "/"], &[12]),
        (&["all"], &[0, 1, 5, 8, 10, 12, 14, 16, 17, 18, 19]),
    ];
    for (targets, groups) in cases {
        let run = machine.run(&[&["--json", "show"], *targets].concat());
        assert_eq!(run.groups(), *groups, "{targets:?}");
    }
}

#[test]
fn block_device_nodes() {
    let machine = Machine::laptop();
    // Disk, partition, device mapper, and the shared disk of NVMe multipath.
    for (major, minor, group) in [(259, 0, 12), (259, 2, 12), (254, 0, 12), (259, 4, 16)] {
        let node = machine.sys(&format!("node-{major}-{minor}"));
        let mode = Mode::from_bits_truncate(0o600);
        match mknod(&node, SFlag::S_IFBLK, mode, makedev(major, minor)) {
            Err(Errno::EPERM) => {
                eprintln!("skipped: only root may make device nodes");
                return;
            }
            other => other.unwrap(),
        }
        let run = machine.run(&["--json", "show", node.to_str().unwrap()]);
        assert_eq!(run.groups(), [group], "{major}:{minor}");
    }
}

#[test]
fn what_is_not_found_is_named_with_a_way_out() {
    let machine = Machine::laptop();
    let cases = [
        ("99", "there is no such group"),
        ("00:1e.0", "there is no such device"),
        ("00:06.0", "the device is in no IOMMU group"),
        ("eth9", "there is no such block device or network interface"),
        ("net:nvme0n1", "there is no such interface"),
        ("nvme", "say driver:nvme"),
        ("lo", "no device in an IOMMU group is behind it"),
        ("driver:tg3", "no device in an IOMMU group is bound to it"),
        ("class:infiniband", "no device in an IOMMU group is of it"),
        ("/fixture/data", "btrfs file system"),
        ("/fixture/none", "No such file or directory"),
        ("/usr", "not a mount point"),
        ("/etc/passwd", "neither a device node nor a mount point"),
        ("/dev/null", "no device in an IOMMU group is behind it"),
        ("/dev/full", "the kernel has no char device"),
    ];
    for (target, words) in cases {
        let run = machine.run(&["show", target]);
        assert_eq!(run.code, 1, "{target}: {run:?}");
        assert!(
            run.err.starts_with("iommuctl: nothing found for "),
            "{run:?}"
        );
        assert!(run.err.contains(words), "{target}: {}", run.err);
        assert!(run.err.contains("\n  - "), "no advice: {}", run.err);
    }
}

#[test]
fn a_name_of_two_things_is_nobody_s() {
    let machine = Machine::laptop();
    let link = "../../devices/pci0000:00/0000:00:1f.6/net/enp0s31f6";
    symlink(link, machine.sys("class/net/nvme0n1")).unwrap();
    for args in [
        &["show", "nvme0n1"][..],
        &["bench", "nvme0n1"],
        &["policy", "explain", "nvme0n1"],
    ] {
        let run = machine.run(args);
        assert_eq!((run.code, run.out.as_str()), (1, ""), "{run:?}");
        for words in ["nvme0n1 is the name of", "say net:nvme0n1 or /dev/nvme0n1"] {
            assert!(run.err.contains(words), "{words}: {}", run.err);
        }
    }
    let run = machine.run(&["--json", "show", "net:nvme0n1"]);
    assert_eq!(run.groups(), [10]);
}

#[test]
fn filters_of_list() {
    let machine = Machine::laptop();
    let cases: &[(&[&str], &[u64])] = &[
        (&["--type", "dma"], &[14, 16, 18]),
        (&["--type", "identity"], &[19]),
        (&["--driver", "nvme"], &[12, 16]),
        (&["--class", "network"], &[10, 14]),
        (&["--class", "0280"], &[14]),
        (&["--driver", "nvme", "--type", "DMA-FQ"], &[12]),
        // Both must be true of one device: the audio device of group 10 is not driven by e1000e.
        (&["--driver", "e1000e", "--class", "audio"], &[]),
    ];
    for (filters, groups) in cases {
        let run = machine.run(&[&["--json", "list"], *filters].concat());
        assert_eq!(run.groups(), *groups, "{filters:?}");
        assert_eq!(run.code, 0);
    }
}

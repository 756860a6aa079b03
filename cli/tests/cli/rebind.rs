// SPDX-License-Identifier: GPL-2.0-only
//! The rebind route and `recover`, as far as a tree of plain files can show them: what is refused, what is planned, what
//! is left behind. That it works is shown on a real kernel.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{symlink, OpenOptionsExt, PermissionsExt};
use std::thread;
use std::time::{Duration, Instant};

use nix::fcntl::{fcntl, FcntlArg};
use nix::libc;

use crate::schema;
use crate::support::Machine;

const REBIND: [&str; 3] = ["set-mode", "--route", "rebind"];

/// The checks that a group was refused for.
fn checks(machine: &Machine, args: &[&str]) -> Vec<String> {
    let run = machine.run(&[&["--json"], &REBIND[..], &["--dry-run"], args].concat());
    schema::check("set-mode", &run.json());
    let findings = run.json()["results"][0]["findings"].clone();
    let list = findings.as_array().into_iter().flatten();
    list.filter_map(|f| f["check"].as_str().map(str::to_owned))
        .collect()
}

#[test]
fn disk_in_use_is_refused_with_a_message_for_each_reason() {
    let machine = Machine::laptop();
    let run = machine.run(&[&REBIND[..], &["12", "identity"]].concat());
    assert_eq!(run.code, 3, "{run:?}");
    for words in [
        "0000:01:00.0 holds dm-0 (root), which is mounted at /",
        "0000:01:00.0 holds nvme0n1p1, which is mounted at /boot/efi",
        "0000:01:00.0 holds dm-0 (root), which the kernel swaps to (/swapfile)",
        "0000:01:00.0 holds nvme0n1p2, which dm-0 (root) is made of",
        "--allow-mounted overrides this",
        "--allow-swap overrides this",
        "--allow-stacked overrides this",
    ] {
        assert!(run.err.contains(words), "{words} is missing: {}", run.err);
    }
    assert_eq!(machine.type_of(12), "DMA-FQ\n");
    assert_eq!(
        fs::read(machine.sys("bus/pci/drivers/nvme/unbind")).unwrap(),
        b""
    );
}

#[test]
fn each_flag_overrides_its_own_check_alone() {
    let machine = Machine::laptop();
    let three = ["--allow-mounted", "--allow-swap", "--allow-stacked"];
    for left_out in three {
        let flags: Vec<&str> = three.into_iter().filter(|f| *f != left_out).collect();
        let found = checks(&machine, &[&flags[..], &["12", "identity"]].concat());
        let name = left_out.strip_prefix("--allow-").unwrap();
        assert!(
            !found.is_empty() && found.iter().all(|f| f == name),
            "{found:?}"
        );
    }
    assert!(checks(&machine, &[&three[..], &["12", "identity"]].concat()).is_empty());
}

#[test]
fn odd_mounts_hide_nothing() {
    let machine = Machine::laptop();
    let path = machine.proc("self/mountinfo");
    let before = fs::read(&path).unwrap();
    // Whoever has FUSE can mount something at a name that is not UTF-8.
    let mut odd = b"30 22 0:50 / /home/u/\xff\xfe rw - fuse.x x rw\n".to_vec();
    odd.extend(&before);
    fs::write(&path, odd).unwrap();
    assert!(checks(&machine, &["12", "DMA"]).contains(&"mounted".to_owned()));
    // What cannot be read at all is no good news.
    fs::write(&path, "nonsense\n").unwrap();
    let run = machine.run(&[&REBIND[..], &["8", "DMA"]].concat());
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains("cannot be told what is in use"),
        "{}",
        run.err
    );
}

#[test]
fn interfaces_in_use_are_refused() {
    let machine = Machine::laptop();
    // The default route leads through a bridge over the card.
    assert_eq!(checks(&machine, &["10", "DMA"]), ["default-route"]);
    fs::write(
        machine.proc("self/environ"),
        "SSH_CONNECTION=192.168.2.9 5 192.168.2.1 22\0",
    )
    .unwrap();
    assert_eq!(
        checks(&machine, &["10", "DMA"]),
        ["default-route", "own-connection"]
    );
    let found = checks(&machine, &["--allow-default-route", "10", "DMA"]);
    assert_eq!(found, ["own-connection"]);
}

#[test]
fn drivers_that_would_not_come_back_are_refused() {
    let machine = Machine::laptop();
    // No bind and unbind attributes.
    assert_eq!(checks(&machine, &["19", "DMA"]), ["left-bound"]);
    // With it left bound, only the type is left to write.
    let args = [
        "--json",
        "set-mode",
        "--dry-run",
        "--route",
        "rebind",
        "--allow-left-bound",
    ];
    let run = machine.run(&[&args[..], &["19", "DMA"]].concat());
    let writes = run.json()["results"][0]["writes"].clone();
    assert_eq!(writes.as_array().unwrap().len(), 1, "{writes}");
    // Somebody has other plans with it.
    let over = machine.sys("devices/pci0000:00/0000:00:14.0/driver_override");
    fs::write(&over, "vfio-pci\n").unwrap();
    assert_eq!(checks(&machine, &["8", "DMA"]), ["left-bound"]);
    // Its own driver there is no obstacle, and is left there.
    fs::write(&over, "xhci_hcd\n").unwrap();
    assert!(checks(&machine, &["8", "DMA"]).is_empty());
}

#[test]
fn what_hangs_from_a_device_is_named() {
    let machine = Machine::laptop();
    let device = machine.sys("devices/pci0000:00/0000:00:14.0");
    symlink("../0000:00:1f.0", device.join("virtfn0")).unwrap();
    let run = machine.run(&[&REBIND[..], &["8", "DMA"]].concat());
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains("go with its driver: 0000:00:1f.0"),
        "{}",
        run.err
    );
    assert!(run.err.contains("--allow-others"), "{}", run.err);
}

#[test]
fn vfio_in_use_names_the_process() {
    let machine = Machine::laptop();
    let driver = machine.sys("devices/pci0000:00/0000:00:14.0/driver");
    fs::remove_file(&driver).unwrap();
    symlink("../../../bus/pci/drivers/vfio-pci", &driver).unwrap();
    let fd = machine.proc("77/fd");
    fs::create_dir_all(&fd).unwrap();
    fs::write(machine.proc("77/comm"), "qemu\n").unwrap();
    symlink("/dev/vfio/8", fd.join("9")).unwrap();
    for route in ["live", "rebind"] {
        let run = machine.run(&["set-mode", "--route", route, "8", "DMA"]);
        assert_eq!(run.code, 3, "{run:?}");
        let words = "process 77 (qemu) has /dev/vfio/8 open";
        assert!(run.err.contains(words), "{}", run.err);
    }
    assert_eq!(machine.type_of(8), "DMA-FQ\n");
}

#[test]
fn auto_interrupts_only_with_permission() {
    let machine = Machine::laptop();
    let auto = ["--json", "set-mode", "--dry-run", "--route", "auto"];
    let run = machine.run(&[&auto[..], &["8", "DMA"]].concat());
    assert_eq!(
        (run.code, &run.json()["results"][0]["needs"]),
        (3, &"rebind".into())
    );
    let run = machine.run(&[&auto[..], &["--allow-interrupt", "8", "14", "DMA"]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    let result = run.json()["results"][0].clone();
    assert_eq!(
        (&result["route"], &result["outcome"]),
        (&"rebind".into(), &"planned".into())
    );
    // A live route is still preferred.
    let run = machine.run(&[&auto[..], &["--allow-interrupt", "14", "DMA-FQ"]].concat());
    assert_eq!(run.json()["results"][0]["route"], "sysfs");
}

#[test]
fn dry_run_leaves_no_trace() {
    let machine = Machine::laptop();
    let run = machine.run(&[&REBIND[..], &["--dry-run", "8", "identity"]].concat());
    assert_eq!(run.code, 0, "{run:?}");
    assert!(!machine.run_dir("").exists());
    assert_eq!(
        fs::read(machine.sys("bus/pci/drivers/xhci_hcd/unbind")).unwrap(),
        b""
    );
}

#[test]
fn kernel_that_does_not_unbind_is_not_believed() {
    let machine = Machine::laptop();
    // A plain file takes the write, and the device stays bound.
    let run = machine.run(&[
        "--json", "set-mode", "--route", "rebind", "8", "17", "identity",
    ]);
    schema::check("set-mode", &run.json());
    assert_eq!(run.code, 4, "{run:?}");
    let result = run.json()["results"][0].clone();
    assert_eq!(result["outcome"], "failed");
    let message = result["message"].as_str().unwrap();
    assert!(
        message.contains("says that it is bound to xhci_hcd"),
        "{message}"
    );
    assert!(message.contains("every device has its driver"), "{message}");
    assert_eq!(machine.type_of(8), "DMA-FQ\n");
    // Nothing is left to recover, and driver_override is what it was: empty.
    assert!(!machine.run_dir("rebind-8").exists());
    let over = machine.sys("devices/pci0000:00/0000:00:14.0/driver_override");
    assert_eq!(fs::read_to_string(over).unwrap(), "\n");
}

#[test]
fn journal_of_an_earlier_rebind_stops_another_and_is_mentioned() {
    let machine = Machine::laptop();
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    let run = machine.run(&[&REBIND[..], &["8", "identity"]].concat());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("interrupted earlier"), "{}", run.err);
    assert!(run.err.contains("`iommuctl recover` first"), "{}", run.err);
    assert_eq!(
        fs::read(machine.sys("bus/pci/drivers/xhci_hcd/unbind")).unwrap(),
        b""
    );
}

#[test]
fn recover_ends_what_is_whole_and_keeps_what_is_not() {
    let machine = Machine::laptop();
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    let run = machine.run(&["recover"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("is bound"), "{}", run.out);
    assert!(!machine.run_dir("rebind-8").exists());
    // A plain file takes the write, and the device stays unbound.
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    fs::remove_file(machine.sys("devices/pci0000:00/0000:00:14.0/driver")).unwrap();
    let run = machine.run(&["--json", "recover"]);
    schema::check("recover", &run.json());
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("modprobe xhci_hcd"), "{}", run.err);
    assert!(machine.run_dir("rebind-8").exists());
    let bind = machine.sys("bus/pci/drivers/xhci_hcd/bind");
    assert_eq!(fs::read_to_string(bind).unwrap(), "0000:00:14.0\n");
}

#[test]
fn recover_of_a_driver_that_is_not_there_says_so() {
    let machine = Machine::laptop();
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    fs::remove_file(machine.sys("devices/pci0000:00/0000:00:14.0/driver")).unwrap();
    fs::remove_dir_all(machine.sys("bus/pci/drivers/xhci_hcd")).unwrap();
    let run = machine.run(&["recover"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(
        run.err.contains("xhci_hcd is not there any more"),
        "{}",
        run.err
    );
}

#[test]
fn journal_that_others_can_write_to_is_not_read() {
    let machine = Machine::laptop();
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    let path = machine.run_dir("rebind-8");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o666)).unwrap();
    let run = machine.run(&["recover"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("others can write to it"), "{}", run.err);
    fs::set_permissions(machine.run_dir(""), fs::Permissions::from_mode(0o777)).unwrap();
    assert_eq!(machine.run(&["recover"]).code, 1);
    assert_eq!(machine.run(&["set-mode", "14", "DMA-FQ"]).code, 1);
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn a_write_that_outlives_its_writer_keeps_the_lock() {
    let machine = Machine::laptop();
    // A full pipe stands for a kernel that does not finish.
    let unbind = machine.sys("bus/pci/drivers/xhci_hcd/unbind");
    fs::remove_file(&unbind).unwrap();
    nix::unistd::mkfifo(&unbind, nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut pipe = fs::OpenOptions::new();
    let pipe = pipe.read(true).write(true).custom_flags(libc::O_NONBLOCK);
    let mut pipe = pipe.open(&unbind).unwrap();
    while pipe.write(&[0; 4096]).is_ok() {}
    let mut writer = machine
        .command(&[&REBIND[..], &["8", "identity"]].concat())
        .spawn()
        .unwrap();
    let journal = machine.run_dir("rebind-8");
    let begin = Instant::now();
    while !fs::read_to_string(&journal).is_ok_and(|t| t.ends_with("{\"step\":{\"unbind\":0}}\n")) {
        assert!(begin.elapsed().as_secs() < 20, "it never came to that");
        thread::sleep(Duration::from_millis(10));
    }
    thread::sleep(Duration::from_millis(500));
    writer.kill().unwrap();
    writer.wait().unwrap();
    let run = machine.run(&["recover", "--lock-timeout", "0"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("another iommuctl is changing"), "{run:?}");
    let mut rest = Vec::new();
    let _ = pipe.read_to_end(&mut rest);
    assert_eq!(machine.run(&["recover", "--lock-timeout", "20"]).code, 0);
    assert!(!journal.exists());
}

#[test]
fn only_one_writer_at_a_time() {
    let machine = Machine::laptop();
    assert_eq!(machine.run(&["set-mode", "14", "DMA-FQ"]).code, 0);
    let lock = fs::OpenOptions::new()
        .write(true)
        .open(machine.run_dir("lock"))
        .unwrap();
    let whole = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    fcntl(&lock, FcntlArg::F_OFD_SETLK(&whole)).unwrap();
    // Everything that changes groups.
    let commands: [&[&str]; 6] = [
        &["set-mode", "--lock-timeout", "0", "17", "identity"],
        &[
            "set-mode",
            "--lock-timeout",
            "0",
            "--route",
            "rebind",
            "8",
            "DMA",
        ],
        &["recover", "--lock-timeout", "0"],
        &["policy", "apply", "--lock-timeout", "0"],
        &["lockdown", "--lock-timeout", "0"],
        &["release", "--lock-timeout", "0"],
    ];
    for args in commands {
        let run = machine.run(args);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(
            run.err.contains("another iommuctl is changing something"),
            "{run:?}"
        );
        // The last one that had it signed.
        assert!(run.err.contains("set-mode 14 DMA-FQ"), "{run:?}");
    }
    // That there is nothing to do could be about to change.
    let again = ["set-mode", "--lock-timeout", "0", "14", "DMA-FQ"];
    assert_eq!(machine.run(&again).code, 1);
    // A dry run changes nothing, and does not wait.
    let dry = ["set-mode", "--dry-run", "17", "identity"];
    assert_eq!(machine.run(&dry).code, 0);
    drop(lock);
    assert_eq!(machine.run(&["set-mode", "17", "identity"]).code, 0);
}

#[test]
fn flag_that_would_do_nothing_is_a_mistake() {
    let machine = Machine::laptop();
    let cases = [
        (&["--allow-interrupt"][..], "goes with --route auto"),
        (
            &["--allow-interrupt", "--route", "rebind"],
            "goes with --route auto",
        ),
        (
            &["--allow-swap"],
            "--allow-swap overrides a check of a rebind",
        ),
        (
            &["--allow-swap", "--route", "auto"],
            "--allow-swap overrides a check of a rebind",
        ),
    ];
    for (flags, words) in cases {
        let line = [&["set-mode", "--dry-run"], flags, &["14", "identity"]].concat();
        let run = machine.run(&line);
        assert_eq!(run.code, 2, "{flags:?}: {}", run.err);
        assert!(run.err.contains(words), "{flags:?}: {}", run.err);
    }
}

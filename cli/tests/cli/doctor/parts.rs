// SPDX-License-Identifier: GPL-2.0-only
//! One finding at a time, on the machine where everything else is in order.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};

use super::{
    about, expect, healthy, module_path, one, program, touch, unload, POLICY, POLICY_FILE, RELEASE,
};

#[test]
fn package_that_builds_the_module_is_asked() {
    let machine = healthy();
    let tool = "usr/lib/iommu-live/can-build";
    program(
        &machine,
        tool,
        "echo There is no BTF.; echo fix: boot another; exit 1",
    );
    expect(
        &machine,
        "module-support",
        "bad",
        "There is no BTF",
        "boot another",
    );
    program(&machine, tool, "exit 7");
    expect(&machine, "module-support", "unknown", "ended with 7", "");
    // What others can write is not run.
    let ran = machine.root("ran");
    program(&machine, tool, &format!("touch {}", ran.display()));
    assert_eq!(one(&machine, "module-support").0, "ok");
    fs::remove_file(&ran).unwrap();
    let path = machine.root(tool);
    fs::set_permissions(path, fs::Permissions::from_mode(0o757)).unwrap();
    expect(
        &machine,
        "module-support",
        "bad",
        "written by others",
        "chmod",
    );
    assert!(!ran.exists());
}

#[test]
fn module_is_looked_for_where_depmod_has_not_been() {
    let machine = healthy();
    machine.file(&format!("lib/modules/{RELEASE}/modules.dep"), "");
    expect(
        &machine,
        "module-built",
        "bad",
        "modprobe does not know",
        "depmod 7.3.4",
    );
    fs::remove_file(machine.root(&module_path())).unwrap();
    expect(
        &machine,
        "module-built",
        "bad",
        "not built",
        "dkms autoinstall -k",
    );
    let weak = format!("lib/modules/{RELEASE}/weak-updates/iommu-live/iommu_live.ko.xz");
    machine.file(&weak, "");
    expect(&machine, "module-built", "bad", "weak-updates", "depmod");
    // Signed, as modinfo says.
    expect(&machine, "module-signed", "ok", "DKMS key", "");
}

#[test]
fn loaded_module_is_to_be_installed() {
    let machine = healthy();
    fs::remove_file(machine.root(&module_path())).unwrap();
    fs::remove_dir_all(machine.root("usr/lib/iommu-live")).unwrap();
    let (level, text, fix) = one(&machine, "module-built");
    assert_eq!((level.as_str(), text.contains("gone")), ("note", true));
    let place = format!("/lib/modules/{RELEASE}/updates/iommu_live.ko");
    let install = format!("install -D -m 644 iommu_live.ko {place}; depmod {RELEASE}");
    assert_eq!(fix, install);
}

#[test]
fn policy_that_is_wrong_or_not_kept() {
    let machine = healthy();
    machine.file(POLICY_FILE, &POLICY.replace("DMA-FQ", "DMA"));
    expect(
        &machine,
        "policy",
        "bad",
        "groups not as it wants",
        "iommuctl policy plan",
    );
    machine.file(POLICY_FILE, "version: 7\n");
    expect(
        &machine,
        "policy",
        "bad",
        "50-site.yaml",
        "iommuctl policy check",
    );
}

#[test]
fn policy_at_boot() {
    let machine = healthy();
    let systemctl = |word: &str| program(&machine, "usr/bin/systemctl", &format!("echo {word}"));
    systemctl("failed; exit 3");
    expect(
        &machine,
        "policy-at-boot",
        "bad",
        "failed",
        "journalctl -b -u iommuctl-policy",
    );
    expect(
        &machine,
        "audit",
        "bad",
        "failed",
        "journalctl -b -u iommuctl-audit",
    );
    systemctl("inactive; exit 3");
    expect(
        &machine,
        "policy-at-boot",
        "note",
        "has not run in this boot",
        "systemctl start iommuctl-policy",
    );
    expect(
        &machine,
        "audit",
        "bad",
        "does not run",
        "systemctl enable --now iommuctl-audit",
    );
    let link = "etc/systemd/system/sysinit.target.wants/iommuctl-policy.service";
    fs::remove_file(machine.root(link)).unwrap();
    expect(
        &machine,
        "policy-at-boot",
        "bad",
        "not enabled",
        "systemctl enable iommuctl-policy",
    );
    let mask = machine.root("etc/systemd/system/iommuctl-policy.service");
    symlink("/dev/null", mask).unwrap();
    expect(
        &machine,
        "policy-at-boot",
        "note",
        "masked",
        "systemctl unmask",
    );
    machine.file("proc/cmdline", "quiet iommuctl.policy=off\n");
    expect(
        &machine,
        "policy-at-boot",
        "note",
        "iommuctl.policy=off",
        "",
    );
}

#[test]
fn policy_has_nothing_to_do_without_groups() {
    let machine = healthy();
    program(&machine, "usr/bin/systemctl", "echo inactive; exit 3");
    fs::remove_dir_all(machine.sys("kernel/iommu_groups")).unwrap();
    expect(&machine, "policy-at-boot", "ok", "enabled", "");
}

#[test]
fn initramfs_with_an_older_policy() {
    let machine = healthy();
    let fix = format!("update-initramfs -u -k {RELEASE}");
    let lists = |script: &str| program(&machine, "usr/bin/lsinitramfs", script);
    lists("echo usr/sbin/iommuctl");
    expect(&machine, "initramfs", "bad", "older policy", &fix);
    lists(&format!("echo {POLICY_FILE}"));
    expect(&machine, "initramfs", "bad", "without iommuctl", &fix);
    lists("exit 1");
    expect(&machine, "initramfs", "unknown", "ended with 1", "");
    touch(&machine.root(POLICY_FILE), 120);
    expect(&machine, "initramfs", "bad", "50-site.yaml is newer", &fix);
}

#[test]
fn initramfs_of_the_maker_that_is_in_use() {
    let machine = healthy();
    fs::create_dir_all(machine.root("usr/lib/dracut/modules.d/50iommuctl")).unwrap();
    // The file is in the image, and the program is not.
    let list = format!("echo {POLICY_FILE}");
    let fix = |fix: &str| {
        let fix = format!("{fix} {RELEASE}");
        expect(&machine, "initramfs", "bad", "without iommuctl", &fix);
    };
    program(&machine, "usr/bin/lsinitramfs", &list);
    fix("update-initramfs -u -k");
    program(&machine, "usr/bin/lsinitrd", &list);
    program(&machine, "usr/bin/dracut", "exit 1");
    fix("dracut --force --kver");
    program(&machine, "usr/sbin/update-initramfs", "exit 1");
    fix("update-initramfs -u -k");
    fs::remove_file(machine.root("usr/bin/lsinitramfs")).unwrap();
    fix("dracut --force --kver");
    fs::remove_file(machine.root("usr/bin/lsinitrd")).unwrap();
    expect(&machine, "initramfs", "unknown", "nothing to list", "");
}

#[test]
fn policy_that_was_replaced_by_an_older_one() {
    let machine = healthy();
    let image = machine.root(&format!("boot/initrd.img-{RELEASE}"));
    let newer = |text: &str| expect(&machine, "initramfs", "bad", text, "");
    // As `cp -p` does it: written long ago, and put there a moment ago.
    touch(&image, -60);
    touch(&machine.root(POLICY_FILE), -120);
    newer("50-site.yaml is newer");
    // Whatever is taken away counts, too.
    touch(&image, 60);
    let folder = machine.root("etc/iommuctl/policy.d");
    touch(&folder, 120);
    newer("policy.d is newer");
}

#[test]
fn policy_that_only_the_initramfs_has() {
    let machine = healthy();
    fs::remove_file(machine.root(POLICY_FILE)).unwrap();
    let fix = format!("update-initramfs -u -k {RELEASE}");
    expect(&machine, "initramfs", "bad", "which is no more", &fix);
}

#[test]
fn log_that_was_rewritten() {
    let machine = healthy();
    let log = machine.root("var/log/iommuctl/audit.jsonl");
    let text = fs::read_to_string(&log).unwrap();
    fs::write(&log, text.replace("\"group\":14", "\"group\":15")).unwrap();
    expect(
        &machine,
        "audit",
        "bad",
        "not as it was written",
        "iommuctl audit verify",
    );
    let lock = machine.root("var/log/iommuctl/audit.lock");
    fs::remove_file(&lock).unwrap();
    expect(&machine, "audit", "unknown", "audit.lock", "");
    assert!(!lock.exists());
    machine.file("etc/iommuctl/audit.yaml", "nonsense: 1\n");
    let found = about(&machine, "audit");
    assert_eq!(found.len(), 2, "{found:?}");
    assert!(found[0].1.contains("audit.yaml"), "{found:?}");
}

#[test]
fn what_was_interrupted_or_is_in_force() {
    let machine = healthy();
    machine.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    expect(
        &machine,
        "recover",
        "bad",
        "of groups: 8",
        "iommuctl recover",
    );
    let machine = healthy();
    assert!(matches!(machine.run(&["lockdown"]).code, 0 | 3 | 4));
    expect(&machine, "lockdown", "note", "in force", "iommuctl release");
    // That is what a lockdown is for.
    expect(&machine, "policy", "note", "stricter", "");
}

#[test]
fn program_that_hangs_is_asked_once() {
    let machine = healthy();
    unload(&machine);
    let module = format!("lib/modules/{RELEASE}/updates/dkms/iommu_live.ko.xz");
    fs::rename(machine.root(&module_path()), machine.root(&module)).unwrap();
    let modules_dep = format!("lib/modules/{RELEASE}/modules.dep");
    machine.file(&modules_dep, "updates/dkms/iommu_live.ko.xz:\n");
    let runs = machine.root("runs");
    let script = format!("echo once >> {}; sleep 60", runs.display());
    program(&machine, "usr/sbin/modinfo", &script);
    // What was not said is not known, and not missing.
    expect(&machine, "module-signed", "unknown", "does not answer", "");
    assert_eq!(fs::read_to_string(runs).unwrap(), "once\n");
}

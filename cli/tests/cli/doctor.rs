// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl doctor`, on a machine where everything is in order, and on others.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod parts;

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{symlink, MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::Value;

use crate::golden::{compare, transcript};
use crate::schema;
use crate::support::Machine;

const RELEASE: &str = "7.3.4+deb13-amd64";
const OURS: &str = env!("CARGO_PKG_VERSION");
const SIGNED: &str = "ELF~Module signature appended~\n";
const SECURE_BOOT: &str =
    "sys/firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const POLICY: &str = "\
version: 1
rules:
  - name: graphics are fast
    match: { class: display }
    type: DMA-FQ
";
const POLICY_FILE: &str = "etc/iommuctl/policy.d/50-site.yaml";

/// Puts a program there that runs `script`.
fn program(machine: &Machine, path: &str, script: &str) {
    let program = machine.file(path, &format!("#!/bin/sh\n{script}\n"));
    fs::set_permissions(program, fs::Permissions::from_mode(0o755)).unwrap();
}

/// What modinfo says about the installed module.
fn modinfo(machine: &Machine, version: &str) {
    signed_by(machine, version, "DKMS key");
}

fn signed_by(machine: &Machine, version: &str, signer: &str) {
    let script = format!(
        "case $2 in version) echo {version};; srcversion) echo ABC;; \
         signer) echo {signer};; sig_key) echo 4A:1B:2C;; \
         audit) echo audited: this kernel has the code that was audited for series 7.3;; esac"
    );
    program(machine, "usr/sbin/modinfo", &script);
}

fn module_path() -> String {
    format!("lib/modules/{RELEASE}/updates/dkms/iommu_live.ko")
}

/// An Intel laptop with Secure Boot, the module, a policy that is kept, and an intact log.
fn healthy() -> Machine {
    let machine = Machine::laptop().with_module().with_policy(POLICY);
    machine.file("sys/kernel/iommu_live/version", OURS);
    machine.file("sys/kernel/iommu_live/audit", "audited\n");
    machine.file("sys/module/iommu_live/srcversion", "ABC\n");
    machine.file(
        "sys/kernel/security/lockdown",
        "none [integrity] confidentiality\n",
    );
    machine.file("sys/module/module/parameters/sig_enforce", "N\n");
    machine.file(SECURE_BOOT, "\x06\0\0\0\x01");
    program(
        &machine,
        "usr/lib/iommu-live/can-build",
        &format!("test \"$*\" = {RELEASE}"),
    );
    machine.file(&module_path(), SIGNED);
    let modules_dep = format!("lib/modules/{RELEASE}/modules.dep");
    machine.file(&modules_dep, "kernel/a.ko:\nupdates/dkms/iommu_live.ko:\n");
    modinfo(&machine, OURS);
    program(&machine, "usr/bin/systemctl", "echo active");
    fs::create_dir_all(machine.root("run/systemd/system")).unwrap();
    for unit in ["iommuctl-policy.service", "iommuctl-audit.service"] {
        machine.file(&format!("usr/lib/systemd/system/{unit}"), "");
        let wants = "etc/systemd/system/sysinit.target.wants";
        machine.file(&format!("{wants}/x"), "");
        let target = format!("/usr/lib/systemd/system/{unit}");
        symlink(target, machine.root(&format!("{wants}/{unit}"))).unwrap();
    }
    machine.file("etc/initramfs-tools/hooks/iommuctl", "");
    let image = machine.file(&format!("boot/initrd.img-{RELEASE}"), "");
    touch(&image, 60);
    let list = format!("echo usr/sbin/iommuctl; echo {POLICY_FILE}");
    program(&machine, "usr/bin/lsinitramfs", &list);
    machine.file("var/log/x", "");
    machine.file("var/lib/x", "");
    assert_eq!(machine.run(&["set-mode", "14", "DMA-FQ"]).code, 0);
    machine
}

/// Makes `file` as old as if it was written in so many seconds, or before as many.
fn touch(file: &Path, seconds: i64) {
    let by = Duration::from_secs(seconds.unsigned_abs());
    let now = SystemTime::now();
    let time = if seconds < 0 { now - by } else { now + by };
    fs::File::open(file).unwrap().set_modified(time).unwrap();
}

/// Takes the module out of the kernel.
fn unload(machine: &Machine) {
    for folder in ["sys/kernel/iommu_live", "sys/module/iommu_live"] {
        fs::remove_dir_all(machine.root(folder)).unwrap();
    }
}

/// For people and for programs.
fn both(machine: &Machine, name: &str) {
    let version = |text: &str| text.replace(OURS, "VERSION");
    let run = machine.run(&["doctor"]);
    compare(&format!("{name}.txt"), &version(&transcript(&run)));
    let json = machine.run(&["--json", "doctor"]);
    schema::check("doctor", &json.json());
    assert_eq!(json.json()["exit_code"], json.code);
    let text = version(&format!("{:#}\n", json.json()));
    compare(&format!("{name}.json"), &text);
}

/// The findings about `id`: level, text and fixes of each.
fn about(machine: &Machine, id: &str) -> Vec<(String, String, String)> {
    let document = machine.run(&["--json", "doctor"]).json();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let findings = document["findings"].as_array().unwrap().iter();
    let these = findings.filter(|f| f["id"] == id).map(|f| {
        let fix: Vec<String> = f["fix"].as_array().unwrap().iter().map(text).collect();
        (text(&f["level"]), text(&f["text"]), fix.join("; "))
    });
    these.collect()
}

/// The one finding about `id`.
fn one(machine: &Machine, id: &str) -> (String, String, String) {
    let mut found = about(machine, id);
    assert_eq!(found.len(), 1, "{id}: {found:?}");
    found.remove(0)
}

#[track_caller]
fn expect(machine: &Machine, id: &str, level: &str, text: &str, fix: &str) {
    let found = one(machine, id);
    assert_eq!(found.0, level, "{found:?}");
    assert!(found.1.contains(text), "{found:?}");
    assert!(found.2.contains(fix), "{found:?}");
}

#[test]
fn everything_is_in_order() {
    both(&healthy(), "doctor");
}

#[test]
fn no_iommu() {
    let machine = Machine::new("no-iommu");
    program(&machine, "usr/sbin/grubby", "exit 1");
    both(&machine, "doctor-no-iommu");
}

#[test]
fn secure_boot_without_the_key() {
    let machine = healthy();
    unload(&machine);
    certificate(&machine, "var/lib/dkms/mok.pub", "DKMS key");
    program(&machine, "usr/bin/mokutil", "echo $2 is not enrolled");
    both(&machine, "doctor-no-key");
    program(
        &machine,
        "usr/bin/mokutil",
        "echo $2 is already enrolled; exit 1",
    );
    expect(&machine, "module-signed", "ok", "is enrolled", "");
}

/// Puts a certificate there, as far as it is looked into: with the name and the number of the module's signature.
fn certificate(machine: &Machine, path: &str, name: &str) {
    machine.file(path, &format!("\x4a\x1b\x2c {name}"));
}

#[test]
fn secure_boot_with_a_key_of_ones_own() {
    let machine = healthy();
    unload(&machine);
    certificate(&machine, "var/lib/dkms/mok.pub", "DKMS key");
    certificate(&machine, "root/site.der", "Site key");
    let only = |path: &str| {
        let enrolled = format!("case $2 in */{path}) echo $2 is already enrolled;; *) ");
        program(
            &machine,
            "usr/bin/mokutil",
            &(enrolled + "echo $2 is not enrolled;; esac"),
        );
    };
    let told = |text: &str| machine.file("etc/dkms/framework.conf.d/site.conf", text);
    signed_by(&machine, OURS, "Site key");
    only("root/site.der");
    // Where the key is not known, nothing is to be enrolled.
    let (level, text, fix) = one(&machine, "module-signed");
    assert_eq!(
        (level.as_str(), fix.as_str()),
        ("unknown", "mokutil --list-enrolled")
    );
    assert!(text.contains("signed by Site key"), "{text}");
    told("mok_certificate=$HOME/site.der\n");
    expect(
        &machine,
        "module-signed",
        "unknown",
        "only a shell knows",
        "list",
    );
    told("mok_signing_key=/root/site.key\nmok_certificate='/root/site.der'\n");
    expect(&machine, "module-signed", "ok", "site.der is enrolled", "");
    only("mok.pub");
    expect(
        &machine,
        "module-signed",
        "bad",
        "site.der is not enrolled",
        "/root/site.der",
    );
    // It was built before DKMS was told.
    modinfo(&machine, OURS);
    expect(&machine, "module-signed", "ok", "mok.pub is enrolled", "");
    // What is built now will have the other signature.
    machine.file(&module_path(), "ELF");
    machine.file("var/lib/dkms/iommu-live/1.2/x", "");
    expect(
        &machine,
        "module-signed",
        "bad",
        "not signed",
        "/root/site.der",
    );
}

#[test]
fn secure_boot_and_no_signature() {
    let machine = healthy();
    unload(&machine);
    machine.file(&module_path(), "ELF");
    let own = "(scripts/sign-file of the kernel's headers); mokutil --import CERTIFICATE";
    expect(&machine, "module-signed", "bad", "not signed", own);
    machine.file("var/lib/dkms/iommu-live/1.2/x", "");
    let install = format!("dkms install --force iommu-live/1.2 -k {RELEASE}");
    let fix = format!("{install}; mokutil --import /var/lib/dkms/mok.pub");
    expect(&machine, "module-signed", "bad", "not signed", &fix);
    machine.file("sys/kernel/security/lockdown", "[none] integrity\n");
    expect(&machine, "module-signed", "ok", "only taints", "");
}

#[test]
fn built_and_not_loaded() {
    let machine = healthy();
    unload(&machine);
    machine.file(SECURE_BOOT, "\x06\0\0\0\0");
    machine.file("sys/kernel/security/lockdown", "[none] integrity\n");
    machine.file("usr/lib/systemd/system/iommu-live.service", "");
    let state = |of_ours: &str| {
        let script = format!("case $2 in iommu-live*) echo {of_ours};; *) echo active;; esac");
        program(&machine, "usr/bin/systemctl", &script);
    };
    state("inactive");
    both(&machine, "doctor-not-loaded");
    let fix = |fix: &str| expect(&machine, "module-loaded", "bad", "not loaded", fix);
    state("active");
    fix("systemctl restart iommu-live; systemctl status");
    symlink(
        "/dev/null",
        machine.root("etc/systemd/system/iommu-live.service"),
    )
    .unwrap();
    fix("modprobe iommu_live");
}

/// What modinfo says of the audit of the installed module.
fn built_with(machine: &Machine, audit: &str) {
    let script = format!("case $2 in version) echo {OURS};; audit) echo '{audit}';; esac");
    program(machine, "usr/sbin/modinfo", &script);
}

#[test]
fn built_for_a_kernel_that_was_not_audited() {
    let machine = healthy();
    unload(&machine);
    machine.file(SECURE_BOOT, "\x06\0\0\0\0");
    machine.file("sys/kernel/security/lockdown", "[none] integrity\n");
    built_with(
        &machine,
        "different: this kernel differs from the audited 7.3 in queue_iova of drivers/iommu/dma-iommu.c",
    );
    both(&machine, "doctor-unaudited");
    let audited = |level: &str, text: &str| expect(&machine, "module-audited", level, text, "");
    built_with(&machine, "unknown: kernel series 7.9 was not audited");
    audited("bad", "7.9 was not audited: the module refuses it");
    built_with(&machine, "series: its source was not compared");
    audited("note", "its source was not compared");
    // What can be loaded is to be loaded.
    expect(&machine, "module-loaded", "bad", "not loaded", "iommu");
    // A module that is older than the audit.
    built_with(&machine, "");
    assert_eq!(about(&machine, "module-audited"), []);
}

#[test]
fn loaded_into_a_kernel_that_was_not_audited() {
    let machine = healthy();
    let audit = |word: &str| machine.file("sys/kernel/iommu_live/audit", word);
    audit("override\n");
    built_with(&machine, "unknown: kernel series 7.9 was not audited");
    expect(
        &machine,
        "module-audited",
        "note",
        "7.9 was not audited; the module switches all the same",
        "",
    );
    assert_eq!(machine.run(&["doctor"]).code, 0);
    audit("series\n");
    expect(&machine, "module-audited", "note", "was not compared", "");
    audit("perhaps\n");
    expect(&machine, "module-audited", "unknown", "perhaps", "");
}

#[test]
fn livepatched_kernel() {
    let machine = healthy();
    // Out of the tree, and livepatched.
    machine.file("proc/sys/kernel/tainted", "36864\n");
    let fix = "boot a kernel that has the patch";
    expect(
        &machine,
        "module-audited",
        "bad",
        "switches nothing until the next boot",
        fix,
    );
    unload(&machine);
    expect(
        &machine,
        "module-audited",
        "bad",
        "refuses to be loaded until the next boot",
        fix,
    );
    expect(&machine, "module-loaded", "bad", "refuses this kernel", "");
    machine.file("proc/sys/kernel/tainted", "4096\n");
    expect(&machine, "module-audited", "ok", "was audited", "");
}

#[test]
fn another_version_is_loaded() {
    let machine = healthy();
    modinfo(&machine, "9.9.9");
    both(&machine, "doctor-version");
    modinfo(&machine, OURS);
    machine.file("sys/module/iommu_live/srcversion", "ABD\n");
    expect(&machine, "module-matches", "bad", "another build", "rmmod");
}

#[test]
fn a_module_that_has_tripped_is_bad() {
    let machine = healthy();
    // One that does not say is not accused.
    assert_eq!(about(&machine, "module-tripped"), []);
    let machine = machine.with_cleanups(1);
    expect(&machine, "module-tripped", "ok", "nothing", "");
    machine.file("sys/kernel/iommu_live/tripped", "1\n");
    let words = "groups that it has switched stay strict, and their unmaps slower";
    expect(&machine, "module-tripped", "bad", words, "reboot");
    assert_eq!(machine.run(&["doctor"]).code, 4);
    let run = machine.run(&["status"]);
    assert!(run.out.contains("until the next boot"), "{run:?}");
}

#[test]
fn exit_codes_and_quiet() {
    let machine = healthy();
    let run = machine.run(&["-q", "doctor"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    unload(&machine);
    let run = machine.run(&["-q", "doctor"]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (4, "", ""));
    assert_eq!(machine.run(&["doctor", "now"]).code, 2);
    fs::remove_dir_all(machine.sys("")).unwrap();
    let run = machine.run(&["doctor"]);
    assert_eq!(run.code, 1);
}

#[test]
fn notes_are_not_bad() {
    let machine = Machine::laptop();
    let run = machine.run(&["doctor"]);
    assert_eq!(run.code, 0, "{run:?}");
    expect(
        &machine,
        "module-support",
        "note",
        "not installed",
        "iommu-live-dkms",
    );
    expect(
        &machine,
        "policy",
        "note",
        "there is none",
        "policy generate",
    );
    for id in [
        "module-built",
        "module-signed",
        "policy-at-boot",
        "initramfs",
    ] {
        assert_eq!(about(&machine, id), [], "{id}");
    }
}

/// Every file below `root`, with what tells whether it was touched.
fn census(root: &Path) -> BTreeMap<String, (u32, u64, i64, i64)> {
    let mut found = BTreeMap::new();
    for entry in fs::read_dir(root).unwrap().flatten() {
        let (path, meta) = (entry.path(), entry.path().symlink_metadata().unwrap());
        let stat = (meta.mode(), meta.size(), meta.mtime(), meta.mtime_nsec());
        found.insert(path.display().to_string(), stat);
        if meta.is_dir() {
            found.extend(census(&path));
        }
    }
    found
}

#[test]
fn nothing_is_changed() {
    let bare = Machine::laptop();
    let (full, root) = (healthy(), "");
    full.leave_journal(8, "0000:00:14.0", "xhci_hcd");
    for machine in [&bare, &full] {
        // The first may close our own folder to others.
        machine.run(&["status"]);
        let before = census(&machine.root(root));
        machine.run(&["doctor"]);
        assert_eq!(census(&machine.root(root)), before);
    }
}

#[test]
fn no_program_below_another_root_is_run() {
    let machine = healthy();
    let ran = machine.root("ran");
    for path in [
        "usr/sbin/modinfo",
        "usr/bin/systemctl",
        "usr/bin/lsinitramfs",
    ] {
        program(&machine, path, &format!("touch {}", ran.display()));
    }
    let mut command = machine.command_without_programs();
    let output = command.arg("doctor").output().unwrap();
    assert!(!output.stdout.is_empty(), "{output:?}");
    assert!(!ran.exists());
}

// SPDX-License-Identifier: GPL-2.0-only
//! Which modules the kernel takes, and whether ours is one of them
//! (`Documentation/admin-guide/module-signing.rst`, `security/lockdown/lockdown.c`, kernel_lockdown(7)).

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::Path;

use super::{Finding, Id, Machine};
use crate::ask::Answer;

/// The variable of the firmware (UEFI specification, section 3.3): four bytes of attributes, which the kernel puts first
/// (`fs/efivarfs`), and one that is 1 if it is on.
const SECURE_BOOT: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const FIRMWARE: &str = "firmware/efi";
/// All modes, the one in force in brackets.
const LOCKDOWN: &str = "kernel/security/lockdown";
/// `Y` if only signed modules load.
const SIG_ENFORCE: &str = "module/module/parameters/sig_enforce";
/// What follows a signature at the end of a module (`include/linux/module_signature.h`).
const TRAILER: &[u8] = b"~Module signature appended~\n";
/// mokutil(1), and the certificates that dkms(8) signs with: its own, and that of Ubuntu.
const MOKUTIL: [&str; 2] = ["usr/bin/mokutil", "usr/sbin/mokutil"];
const CERTIFICATES: [&str; 2] = ["var/lib/dkms/mok.pub", "var/lib/shim-signed/mok/MOK.der"];
/// Where dkms(8) keeps what it has of ours: a folder for each version.
const DKMS: &str = "var/lib/dkms/iommu-live";

/// Something the kernel says, or does not say.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// This.
    Text(String),
    /// There is no such file.
    Absent,
    /// There is, and it may not be read.
    Unreadable,
}

/// What keeps unsigned modules out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Enforcement {
    /// Whether the machine was started by UEFI.
    uefi: bool,
    /// Whether Secure Boot is on; `None` if that cannot be read.
    secure_boot: Option<bool>,
    lockdown: Said,
    /// Whether `module.sig_enforce` is set; `None` if the kernel has no such parameter.
    sig_enforce: Option<bool>,
}

impl Enforcement {
    /// Of the running kernel.
    pub fn of(machine: &Machine<'_>) -> Self {
        let tree = machine.context.sysfs.tree();
        let variable = tree.bytes(SECURE_BOOT, 64).ok().flatten();
        let lockdown = match tree.text(LOCKDOWN) {
            Ok(Some(text)) => in_brackets(&text).map_or(Said::Unreadable, Said::Text),
            Ok(None) => Said::Absent,
            Err(_) => Said::Unreadable,
        };
        let sig_enforce = tree.text(SIG_ENFORCE).ok().flatten();
        Self {
            uefi: tree.is_directory(FIRMWARE),
            secure_boot: variable.as_deref().and_then(is_on),
            lockdown,
            sig_enforce: sig_enforce.map(|text| text == "Y"),
        }
    }

    /// Whether only signed modules load; `None` if that is not known. Secure Boot alone does not see to that: the
    /// distributions have the kernel lock itself down for it, and where that cannot be seen, it is assumed.
    fn signed_only(&self) -> Option<bool> {
        match (&self.lockdown, self.sig_enforce, self.secure_boot) {
            (_, Some(true), _) => Some(true),
            (Said::Text(mode), ..) => Some(mode != "none"),
            (_, _, Some(true)) => Some(true),
            (Said::Absent, ..) => Some(false),
            (Said::Unreadable, ..) => None,
        }
    }
}

/// The variable's value: whether it is on.
fn is_on(variable: &[u8]) -> Option<bool> {
    variable.get(4).map(|value| *value == 1)
}

/// The word that is in force: `integrity` of `none [integrity] confidentiality`.
fn in_brackets(text: &str) -> Option<String> {
    let (_, rest) = text.split_once('[')?;
    let (word, _) = rest.split_once(']')?;
    Some(word.to_owned())
}

/// Which modules the kernel takes. A fact, and never bad.
pub fn secure_boot(enforcement: &Enforcement) -> Finding {
    let mut facts = vec![match (enforcement.uefi, enforcement.secure_boot) {
        (_, Some(true)) => "Secure Boot is on".to_owned(),
        (_, Some(false)) => "Secure Boot is off".to_owned(),
        (true, None) => "whether Secure Boot is on is not known".to_owned(),
        (false, None) => "no UEFI, so no Secure Boot".to_owned(),
    }];
    match &enforcement.lockdown {
        Said::Text(mode) if mode == "none" => {}
        Said::Text(mode) => facts.push(format!("the kernel is locked down ({mode})")),
        Said::Absent => {}
        Said::Unreadable => facts.push("whether the kernel is locked down is not known".to_owned()),
    }
    if enforcement.sig_enforce == Some(true) {
        facts.push("module.sig_enforce is set".to_owned());
    }
    let facts = facts.join(", ");
    match enforcement.signed_only() {
        Some(true) => Finding::ok(Id::SecureBoot, format!("{facts}: only signed modules load")),
        Some(false) => Finding::ok(Id::SecureBoot, format!("{facts}: unsigned modules load")),
        None => Finding::unknown(Id::SecureBoot, facts),
    }
}

/// Whether the module in `file` ends with a signature.
fn has_signature(file: &Path) -> io::Result<bool> {
    let mut file = File::open(file)?;
    let length = i64::try_from(TRAILER.len()).unwrap_or(i64::MAX);
    let size = file.metadata()?.len();
    if size < TRAILER.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-length))?;
    let mut end = Vec::new();
    file.take(TRAILER.len() as u64).read_to_end(&mut end)?;
    Ok(end == TRAILER)
}

/// Whether it is signed, and by whom, if that is said; `None` if that is not known.
fn signature(machine: &Machine<'_>, path: &str) -> Option<(bool, Option<String>)> {
    let file = machine.path(path);
    let signer = machine.modinfo("signer", &file);
    if path.ends_with(".ko") {
        return Some((has_signature(&file).ok()?, signer));
    }
    // modinfo says the kind even where it was built without what reads the name.
    let kind = machine.modinfo("sig_id", &file);
    let signed = signer.is_some() || kind.is_some();
    machine.has_modinfo().then_some((signed, signer))
}

/// Whether the key that dkms(8) signs with is one the firmware knows.
#[derive(Debug, PartialEq, Eq)]
enum Enrolled {
    Yes,
    No,
    /// From the next boot on, if whoever sits there agrees.
    Asked,
    Unknown,
}

/// What `mokutil --test-key` means. Its exit code is 1 for yes, and also for some errors.
fn enrolled(answer: &Answer) -> Enrolled {
    let says = |words| answer.text.contains(words);
    if says("is not enrolled") {
        Enrolled::No
    } else if says("already in the enrollment request") {
        Enrolled::Asked
    } else if says("is already ") {
        Enrolled::Yes
    } else {
        Enrolled::Unknown
    }
}

/// Whether the module is signed as the kernel wants it; nothing if none is installed.
pub fn signed(machine: &Machine<'_>, enforcement: &Enforcement) -> Option<Finding> {
    let installed = machine.module_file()?;
    let Some((signed, signer)) = signature(machine, &installed.path) else {
        let why = "modinfo is not there, does not answer, or cannot read the module";
        return Some(Finding::unknown(Id::ModuleSigned, why));
    };
    let by = signer.map_or(String::new(), |signer| format!(" by {signer}"));
    let ok = |text: String| Some(Finding::ok(Id::ModuleSigned, text));
    match (signed, enforcement.signed_only()) {
        (true, Some(false)) => ok(format!("signed{by}")),
        (true, _) if machine.is_loaded() => ok(format!("signed{by}, and the kernel took it")),
        (true, _) => Some(key(machine, &by)),
        (false, Some(false)) => ok("not signed, which only taints this kernel".to_owned()),
        (false, Some(true)) => {
            let text = "not signed, and this kernel loads only signed modules";
            let finding = Finding::bad(Id::ModuleSigned, text);
            Some(finding.fixes(rebuild(machine)).fixes(enrol(machine)))
        }
        (false, None) => {
            let why = "it is not signed, and whether this kernel minds cannot be seen";
            Some(Finding::unknown(Id::ModuleSigned, why))
        }
    }
}

/// The module is signed, the kernel wants that, and the module is not loaded: is the key known?
fn key(machine: &Machine<'_>, by: &str) -> Finding {
    let bad = |text: String| Finding::bad(Id::ModuleSigned, text);
    let certificate = certificate(machine);
    let answer = machine.ask(&MOKUTIL, &["--test-key", &certificate]);
    let known = match answer {
        Some(Ok(answer)) => enrolled(&answer),
        Some(Err(_)) | None => Enrolled::Unknown,
    };
    match known {
        Enrolled::Yes => Finding::ok(
            Id::ModuleSigned,
            format!("signed{by}, and {certificate} is enrolled"),
        ),
        Enrolled::No => {
            let text = format!("signed{by}, and {certificate} is not enrolled");
            bad(text).fixes(enrol(machine))
        }
        Enrolled::Asked => {
            let text = format!("signed{by}, and {certificate} is not enrolled yet");
            bad(text).fix(IN_FIRMWARE)
        }
        Enrolled::Unknown => {
            let why = format!("it is signed{by}, and whether the key is enrolled cannot be asked");
            let finding = Finding::unknown(Id::ModuleSigned, why);
            finding.fix(format!("mokutil --test-key {certificate}"))
        }
    }
}

/// What is left to do after `mokutil --import`.
const IN_FIRMWARE: &str = "reboot, and choose \"Enroll MOK\" on the blue screen";

fn certificate(machine: &Machine<'_>) -> String {
    let mut there = CERTIFICATES.iter().filter(|path| machine.exists(path));
    let [usual, _] = CERTIFICATES;
    machine.root.display(there.next().copied().unwrap_or(usual))
}

/// How the key becomes known.
fn enrol(machine: &Machine<'_>) -> [String; 2] {
    [
        format!("mokutil --import {}", certificate(machine)),
        IN_FIRMWARE.to_owned(),
    ]
}

/// How the module is built anew, and signed: dkms(8) signs whatever it builds. `autoinstall` passes over what is installed.
fn rebuild(machine: &Machine<'_>) -> Vec<String> {
    let folder = machine.root.folder(DKMS).ok().flatten();
    let names = folder.and_then(|folder| folder.names().ok());
    let is_version = |name: &String| name.starts_with(|c: char| c.is_ascii_digit());
    let version = names.and_then(|names| names.into_iter().rfind(is_version));
    let release = machine.release.as_deref();
    match (version, release) {
        (Some(version), Some(release)) => ["build", "install"]
            .map(|verb| format!("dkms {verb} --force iommu-live/{version} -k {release}"))
            .to_vec(),
        _ => vec!["sign the module (scripts/sign-file of the kernel's headers)".to_owned()],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enforcement(
        lockdown: Said,
        sig_enforce: Option<bool>,
        secure_boot: Option<bool>,
    ) -> Enforcement {
        Enforcement {
            uefi: true,
            secure_boot,
            lockdown,
            sig_enforce,
        }
    }

    #[test]
    fn what_keeps_unsigned_modules_out() {
        let mode = |mode: &str| Said::Text(mode.to_owned());
        let cases = [
            (mode("none"), Some(false), Some(true), Some(false)),
            (mode("none"), Some(true), Some(false), Some(true)),
            (mode("integrity"), Some(false), Some(false), Some(true)),
            (mode("confidentiality"), None, None, Some(true)),
            (Said::Absent, Some(false), Some(true), Some(true)),
            (Said::Absent, Some(false), Some(false), Some(false)),
            (Said::Absent, None, None, Some(false)),
            (Said::Unreadable, Some(false), Some(false), None),
            (Said::Unreadable, None, Some(true), Some(true)),
        ];
        for (lockdown, sig_enforce, secure_boot, wanted) in cases {
            let enforcement = enforcement(lockdown, sig_enforce, secure_boot);
            assert_eq!(enforcement.signed_only(), wanted, "{enforcement:?}");
        }
    }

    #[test]
    fn kernel_files_are_parsed() {
        let lockdown = in_brackets("none [integrity] confidentiality");
        assert_eq!(lockdown.as_deref(), Some("integrity"));
        assert_eq!(in_brackets("none"), None);
        assert_eq!(is_on(&[6, 0, 0, 0, 1]), Some(true));
        assert_eq!(is_on(&[6, 0, 0, 0, 0]), Some(false));
        assert_eq!(is_on(&[6, 0, 0, 0]), None);
    }

    #[test]
    fn only_a_trailer_at_the_very_end_is_a_signature() {
        let signed = |bytes: &[u8]| {
            let file = tempfile::NamedTempFile::new().unwrap();
            std::fs::write(file.path(), bytes).unwrap();
            has_signature(file.path()).unwrap()
        };
        assert!(signed(b"\x7fELF...~Module signature appended~\n"));
        assert!(!signed(b"\x7fELF...~Module signature appended~\n."));
        assert!(!signed(b"\x7fELF") && !signed(b""));
    }

    #[test]
    fn mokutil_is_understood() {
        let says = |code, text: &str| {
            let text = text.to_owned();
            enrolled(&Answer { code, text })
        };
        let key = "/var/lib/dkms/mok.pub";
        assert_eq!(says(0, &format!("{key} is not enrolled\n")), Enrolled::No);
        assert_eq!(
            says(1, &format!("{key} is already enrolled\n")),
            Enrolled::Yes
        );
        let skip = format!("SKIP: {key} is already in the enrollment request\n");
        assert_eq!(says(1, &skip), Enrolled::Asked);
        assert_eq!(
            says(255, "EFI variables are not supported\n"),
            Enrolled::Unknown
        );
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Which modules the kernel accepts, and whether ours is one of them (`Documentation/admin-guide/module-signing.rst`,
//! `security/lockdown/lockdown.c`, kernel_lockdown(7)).

use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom};
use std::path::Path;

use super::finding::{Finding, Id};
use super::machine::{errno_of, why, Machine, RUN_AS_ROOT};
use crate::sys::subprocess::Completed;
use crate::sys::trusted::{Content, Root, TrustError, TrustedDir};

/// The variable of the firmware (UEFI specification, section 3.3): four bytes of attributes, which the kernel puts first
/// (`fs/efivarfs`), and one that is 1 if it is on.
const SECURE_BOOT: &str = "firmware/efi/efivars/SecureBoot-8be4df61-93ca-11d2-aa0d-00e098032b8c";
const FIRMWARE: &str = "firmware/efi";
/// The file with all lockdown modes, the active one in brackets.
const LOCKDOWN: &str = "kernel/security/lockdown";
/// The parameter that is `Y` if only signed modules load.
const SIG_ENFORCE: &str = "module/module/parameters/sig_enforce";
/// The marker after a signature at the end of a module (`include/linux/module_signature.h`).
const SIGNATURE_TRAILER: &[u8] = b"~Module signature appended~\n";
/// mokutil(1), and the certificates that dkms(8) signs with unless it is told otherwise: on Ubuntu, and its own.
const MOKUTIL: [&str; 2] = ["usr/bin/mokutil", "usr/sbin/mokutil"];
const CERTIFICATES: [&str; 2] = ["var/lib/shim-signed/mok/MOK.der", "var/lib/dkms/mok.pub"];
/// The configuration of dkms(8): a file, and the files of a directory, read in the order of their names; the last setting wins.
const FRAMEWORK: (&str, &str) = ("etc/dkms", "framework.conf");
const FRAMEWORK_MORE: &str = "etc/dkms/framework.conf.d";
/// The variable that sets the certificate. The files are shell scripts.
const CERTIFICATE: &str = "mok_certificate";
/// The largest certificate that is read, in bytes.
const CERTIFICATE_LIMIT: u64 = 64 * 1024;
/// The directory in which dkms(8) keeps our module, with a directory for each version.
const DKMS: &str = "var/lib/dkms/iommu-live";

/// A setting of the kernel that may not be readable.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Said {
    /// Its value.
    Text(String),
    /// There is no such file.
    Absent,
    /// The file exists, and may not be read.
    Unreadable,
}

/// The settings that reject unsigned modules.
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
    /// Reads the settings of the running kernel.
    pub fn of(machine: &Machine<'_>) -> Self {
        let kernfs = machine.context.sysfs.kernfs();
        let variable = kernfs.bytes(SECURE_BOOT, 64).ok().flatten();
        let lockdown = match kernfs.text(LOCKDOWN) {
            Ok(Some(text)) => in_brackets(&text).map_or(Said::Unreadable, Said::Text),
            Ok(None) => Said::Absent,
            Err(_) => Said::Unreadable,
        };
        let sig_enforce = kernfs.text(SIG_ENFORCE).ok().flatten();
        Self {
            uefi: kernfs.is_directory(FIRMWARE),
            secure_boot: variable.as_deref().and_then(is_on),
            lockdown,
            sig_enforce: sig_enforce.map(|text| text == "Y"),
        }
    }

    /// Whether only signed modules load; `None` if that is not known. Secure Boot alone does not require it: the distributions
    /// make the kernel lock itself down for it, and where that cannot be read, it is assumed.
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

/// Reports which modules the kernel accepts. This is a fact, and never bad.
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
    let length = i64::try_from(SIGNATURE_TRAILER.len()).unwrap_or(i64::MAX);
    let size = file.metadata()?.len();
    if size < SIGNATURE_TRAILER.len() as u64 {
        return Ok(false);
    }
    file.seek(SeekFrom::End(-length))?;
    let mut end = Vec::new();
    file.take(SIGNATURE_TRAILER.len() as u64)
        .read_to_end(&mut end)?;
    Ok(end == SIGNATURE_TRAILER)
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
    /// It is enrolled at the next boot, if the person at the console agrees.
    Asked,
    Unknown,
}

/// What `mokutil --test-key` means. Its exit code is 1 for yes, and also for some errors.
fn enrolled(completed: &Completed) -> Enrolled {
    let says = |words| completed.text.contains(words);
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
    let by = signer.as_deref();
    let by = by.map_or(String::new(), |signer| format!(" by {signer}"));
    let ok = |text: String| Some(Finding::ok(Id::ModuleSigned, text));
    match (signed, enforcement.signed_only()) {
        (true, Some(false)) => ok(format!("signed{by}")),
        (true, _) if machine.is_loaded() => ok(format!("signed{by}, and the kernel took it")),
        (true, _) => Some(key(machine, &installed.path, signer.as_deref())),
        (false, Some(false)) => ok("not signed, which only taints this kernel".to_owned()),
        (false, Some(true)) => {
            let text = "not signed, and this kernel loads only signed modules";
            let finding = Finding::bad(Id::ModuleSigned, text);
            Some(finding.fixes(sign(machine)))
        }
        (false, None) => {
            let why = "it is not signed, and whether this kernel minds cannot be seen";
            Some(Finding::unknown(Id::ModuleSigned, why))
        }
    }
}

/// The module at `path` is signed, the kernel wants that, and the module is not loaded: is the key known?
fn key(machine: &Machine<'_>, path: &str, signer: Option<&str>) -> Finding {
    let unknown = |why: String| Finding::unknown(Id::ModuleSigned, why);
    let serial = machine.modinfo("sig_key", &machine.path(path));
    let Some((signer, serial)) = signer.zip(serial) else {
        return unknown("it is signed, and modinfo does not say with which key".to_owned());
    };
    // Test only the module's own key: enrolling another one would not help.
    let certificate = match certificate_of(machine, signer, &serial) {
        Ok(certificate) => machine.root.display(&certificate),
        Err(why) => {
            let finding = unknown(format!("it is signed by {signer}, and {why}"));
            return finding.fix("mokutil --list-enrolled");
        }
    };
    let bad = |text: String| Finding::bad(Id::ModuleSigned, text);
    let completed = machine.run(&MOKUTIL, &["--test-key", &certificate]);
    let known = match completed {
        Some(Ok(completed)) => enrolled(&completed),
        Some(Err(_)) | None => Enrolled::Unknown,
    };
    match known {
        Enrolled::Yes => Finding::ok(
            Id::ModuleSigned,
            format!("signed by {signer}, and {certificate} is enrolled"),
        ),
        Enrolled::No => {
            let text = format!("signed by {signer}, and {certificate} is not enrolled");
            bad(text).fixes(enrol(&certificate))
        }
        Enrolled::Asked => {
            let text = format!("signed by {signer}, and {certificate} is not enrolled yet");
            bad(text).fix(IN_FIRMWARE)
        }
        Enrolled::Unknown => {
            let why = "whether the key is enrolled cannot be asked";
            let finding = unknown(format!("it is signed by {signer}, and {why}"));
            finding.fix(format!("mokutil --test-key {certificate}"))
        }
    }
}

/// The certificate of the key that a module was signed with, of those that dkms(8) may have signed with; otherwise why it is
/// not known. modinfo(8) says the `signer` and the `serial` number.
fn certificate_of(machine: &Machine<'_>, signer: &str, serial: &str) -> Result<String, String> {
    let (told, mut why) = match told(&machine.root) {
        Ok(told) => (told, "DKMS has no such certificate".to_owned()),
        Err(why) => (None, why),
    };
    for path in told.into_iter().chain(CERTIFICATES.map(str::to_owned)) {
        match read(&machine.path(&path)) {
            Ok(bytes) if is_of(&bytes, signer, serial) => return Ok(path),
            Err(error) if error.kind() == ErrorKind::PermissionDenied => {
                why = format!("{}: {RUN_AS_ROOT}", machine.root.display(&path));
            }
            Ok(_) | Err(_) => {}
        }
    }
    Err(why)
}

fn read(path: &Path) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if path.metadata()?.is_file() {
        File::open(path)?
            .take(CERTIFICATE_LIMIT)
            .read_to_end(&mut bytes)?;
    }
    Ok(bytes)
}

/// Whether a certificate (X.509, in DER) has the name and the serial number of a signature. Both are in it as they are.
fn is_of(certificate: &[u8], signer: &str, serial: &str) -> bool {
    let has = |part: &[u8]| !part.is_empty() && certificate.windows(part.len()).any(|w| w == part);
    let digits = serial.split_terminator(':');
    let serial: Option<Vec<u8>> = digits.map(|d| u8::from_str_radix(d, 16).ok()).collect();
    has(signer.as_bytes()) && serial.is_some_and(|serial| has(&serial))
}

/// The certificate, relative to the root, that dkms(8) is told to sign with; `None` if it is told none, and an error if that
/// cannot be known.
fn told(root: &Root) -> Result<Option<String>, String> {
    let settings = settings(root).map_err(|error| why(errno_of(&error), &error))?;
    let mut told = Ok(None);
    for (path, text) in &settings {
        for value in text.lines().filter_map(assigned) {
            told = match value {
                Some("") => Ok(None),
                Some(certificate) => Ok(Some(certificate.trim_start_matches('/').to_owned())),
                None => Err(format!("only a shell knows {CERTIFICATE} in {path}")),
            };
        }
    }
    told
}

/// The files that tell dkms(8) something: the path and the text of each.
fn settings(root: &Root) -> Result<Vec<(String, String)>, TrustError> {
    let mut files = Vec::new();
    let mut read = |folder: &TrustedDir, name: &str| -> Result<(), TrustError> {
        if let Content::Text(text) = folder.read(name)? {
            files.push((folder.display(name), text));
        }
        Ok(())
    };
    let (folder, name) = FRAMEWORK;
    if let Some(folder) = root.dir(folder)? {
        read(&folder, name)?;
    }
    if let Some(folder) = root.dir(FRAMEWORK_MORE)? {
        for name in folder.names()? {
            if name.ends_with(".conf") && !name.starts_with('.') {
                read(&folder, &name)?;
            }
        }
    }
    Ok(files)
}

/// What a line makes of the variable: nothing, this, or what only a shell knows.
fn assigned(line: &str) -> Option<Option<&str>> {
    let line = line.trim();
    if line.starts_with('#') || !line.contains(CERTIFICATE) {
        return None;
    }
    let value = line.strip_prefix(CERTIFICATE);
    Some(value.and_then(|v| v.strip_prefix('=')).and_then(plain_path))
}

/// The absolute path, or nothing at all, that a word of the shell is, in quotes or not; `None` if it may be something else,
/// or would be when it is typed.
fn plain_path(text: &str) -> Option<&str> {
    let quote = text.chars().next().filter(|c| matches!(c, '"' | '\''));
    let (value, rest) = match quote {
        Some(quote) => text.strip_prefix(quote)?.split_once(quote)?,
        None => text.split_at(text.find(char::is_whitespace).unwrap_or(text.len())),
    };
    let is_plain = |c: char| c.is_alphanumeric() || "/._-+,@%".contains(c);
    let is_path = value.is_empty() || value.starts_with('/');
    let ends = rest.is_empty()
        || (rest.starts_with(char::is_whitespace) && rest.trim_start().starts_with('#'));
    (is_path && ends && value.chars().all(is_plain)).then_some(value)
}

/// What is left to do after `mokutil --import`.
const IN_FIRMWARE: &str = "reboot, and choose \"Enroll MOK\" on the blue screen";

/// How the key becomes known.
fn enrol(certificate: &str) -> [String; 2] {
    [
        format!("mokutil --import {certificate}"),
        IN_FIRMWARE.to_owned(),
    ]
}

/// How the module is built anew, and signed, with a key that is enrolled: dkms(8) signs whatever it builds. `autoinstall`
/// passes over what is installed.
fn sign(machine: &Machine<'_>) -> Vec<String> {
    let folder = machine.root.dir(DKMS).ok().flatten();
    let names = folder.and_then(|folder| folder.names().ok());
    let is_version = |name: &String| name.starts_with(|c: char| c.is_ascii_digit());
    let version = names.and_then(|names| names.into_iter().rfind(is_version));
    let release = machine.release.as_deref();
    let (Some(version), Some(release)) = (version, release) else {
        let sign = "sign the module (scripts/sign-file of the kernel's headers)".to_owned();
        return [sign].into_iter().chain(enrol("CERTIFICATE")).collect();
    };
    let steps = ["build", "install"]
        .map(|verb| format!("dkms {verb} --force iommu-live/{version} -k {release}"));
    let [.., usual] = CERTIFICATES;
    let certificate = match told(&machine.root) {
        Ok(Some(told)) => machine.root.display(&told),
        Ok(None) => {
            let mut there = CERTIFICATES.iter().filter(|path| machine.exists(path));
            machine.root.display(there.next().copied().unwrap_or(usual))
        }
        Err(_) => "CERTIFICATE".to_owned(),
    };
    steps.into_iter().chain(enrol(&certificate)).collect()
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::PermissionsExt;

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
    fn assignments_are_read_as_far_as_they_are_plain() {
        let plain = |line: &'static str, value| assert_eq!(assigned(line), Some(Some(value)));
        plain("mok_certificate=/root/site.der", "/root/site.der");
        plain("  mok_certificate=/a/b-c_1.der  # ours\r", "/a/b-c_1.der");
        plain(r#"mok_certificate="/root/site.der""#, "/root/site.der");
        plain("mok_certificate='/root/site.der' # ours", "/root/site.der");
        plain("mok_certificate=", "");
        plain("mok_certificate=''", "");
        for line in [
            "mok_certificate=~/site.der",
            "mok_certificate=/keys/$kernelver.der",
            r#"mok_certificate="${dir}/site.der""#,
            "mok_certificate=$(find-key)",
            "mok_certificate='/site key.der'",
            "mok_certificate=/a; true",
            "mok_certificate=/a true",
            "mok_certificate='/a'/b",
            "mok_certificate='/a",
            r"mok_certificate=/a\",
            "mok_certificate=a",
            "mok_certificate+=/a",
            "export mok_certificate=/a",
            "mok_signing_key=/a mok_certificate=/b",
        ] {
            assert_eq!(assigned(line), Some(None), "{line}");
        }
        for line in ["", "# mok_certificate=/a", "mok_signing_key=/root/site.key"] {
            assert_eq!(assigned(line), None, "{line}");
        }
    }

    #[test]
    fn last_word_about_the_certificate_counts() {
        let dir = tempfile::tempdir().unwrap();
        let put = |name: &str, text: &str, mode| {
            let path = dir.path().join("etc/dkms").join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
        };
        for folder in ["etc", "etc/dkms", "etc/dkms/framework.conf.d"] {
            let path = dir.path().join(folder);
            std::fs::create_dir(&path).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        let told = || told(&Root::open(Some(dir.path())).unwrap());
        assert_eq!(told(), Ok(None));
        put("framework.conf", "mok_certificate=$key\n", 0o644);
        assert!(told().unwrap_err().ends_with("etc/dkms/framework.conf"));
        put("framework.conf.d/b.conf", "mok_certificate=/b\n", 0o644);
        put("framework.conf.d/a.conf", "mok_certificate=/a\n", 0o644);
        put("framework.conf.d/c.conf~", "mok_certificate=/c\n", 0o644);
        put("framework.conf.d/.d.conf", "mok_certificate=/d\n", 0o644);
        assert_eq!(told(), Ok(Some("b".to_owned())));
        put("framework.conf.d/c.conf", "mok_certificate=\n", 0o644);
        assert_eq!(told(), Ok(None));
        put("framework.conf.d/c.conf", "mok_certificate=/c\n", 0o666);
        assert!(told().unwrap_err().contains("written by others"));
    }

    #[test]
    fn certificate_has_the_name_and_the_number_of_the_signature() {
        let certificate = b"\x30\x82\x02\x02\x4a\x1bDKMS module signing key...";
        let is = |signer, serial| is_of(certificate, signer, serial);
        assert!(is("DKMS module signing key", "4A:1B"));
        assert!(!is("Site key", "4A:1B"));
        // One that was made later has the same name.
        assert!(!is("DKMS module signing key", "4A:1C"));
        for unknown in ["", "nonsense"] {
            assert!(!is("DKMS module signing key", unknown), "{unknown}");
        }
        assert!(!is_of(b"", "DKMS module signing key", "4A:1B"));
    }

    #[test]
    fn mokutil_is_understood() {
        let says = |code, text: &str| {
            let text = text.to_owned();
            enrolled(&Completed { code, text })
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

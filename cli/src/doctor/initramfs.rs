// SPDX-License-Identifier: GPL-2.0-only
//! The initramfs of the running kernel: whether it has `iommuctl` and the policy of now.

use std::collections::BTreeSet;
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::finding::{Finding, Id, Level};
use super::machine::{why, Machine};
use crate::config::policy_files::FOLDERS;
use crate::sys::subprocess;

/// A maker of initramfs images.
struct Maker {
    /// Our part of it; one of these is enough.
    hooks: &'static [&'static str],
    /// Lists what is in an image.
    lister: &'static [&'static str],
    /// Makes images.
    program: &'static [&'static str],
    /// Makes the image of a kernel anew, whose release follows.
    fix: &'static str,
}

/// dracut(8), and initramfs-tools(7), which is more likely where nothing tells them apart.
const MAKERS: [Maker; 2] = [
    Maker {
        hooks: &["usr/lib/dracut/modules.d/50iommuctl"],
        lister: &["usr/bin/lsinitrd", "usr/sbin/lsinitrd", "sbin/lsinitrd"],
        program: &["usr/bin/dracut", "usr/sbin/dracut", "sbin/dracut"],
        fix: "dracut --force --kver",
    },
    Maker {
        hooks: &[
            "etc/initramfs-tools/hooks/iommuctl",
            "usr/share/initramfs-tools/hooks/iommuctl",
        ],
        lister: &["usr/bin/lsinitramfs"],
        program: &["usr/sbin/update-initramfs", "sbin/update-initramfs"],
        fix: "update-initramfs -u -k",
    },
];
/// An image is decompressed to be listed.
const LISTER_TIMEOUT: Duration = Duration::from_secs(30);
/// The program, where the hooks put it.
const PROGRAM: &str = "sbin/iommuctl";

/// What the image should have, and does not, or the other way round.
#[derive(Debug, PartialEq, Eq)]
enum Stale {
    /// It goes without us.
    NoProgram,
    /// This file of the policy is not in it.
    Missing(String),
    /// This one is, and is none any more.
    Gone(String),
}

/// Whether the initramfs has the policy of now; nothing without our part of the maker of the image, and without a policy only
/// that the image still has one.
pub fn initramfs(machine: &Machine<'_>) -> Option<Finding> {
    let loaded = machine.policy.as_ref().ok()?;
    // What is in /run is made after the image was.
    let below = |path: &str| {
        let root = machine.root.display("");
        let path = path.strip_prefix(root.as_str()).unwrap_or(path);
        path.trim_start_matches('/').to_owned()
    };
    let files = loaded.files.iter().map(|file| below(&file.path));
    let files: Vec<String> = files.filter(|path| !path.starts_with("run/")).collect();
    let finding = compare(machine, maker(machine)?, &files)?;
    let counts = !files.is_empty() || finding.level == Level::Bad;
    counts.then_some(finding)
}

fn compare(machine: &Machine<'_>, maker: &Maker, files: &[String]) -> Option<Finding> {
    let unknown = |why: String| Some(Finding::unknown(Id::Initramfs, why));
    let release = machine.release.as_deref();
    let found = release.and_then(|release| Some((release, image(machine, release)?)));
    let Some((release, image)) = found else {
        return unknown("/boot has no image that is known to be this kernel's".to_owned());
    };
    let shown = image.display();
    let bad = |text: String| {
        let finding = Finding::bad(Id::Initramfs, text);
        Some(finding.fix(format!("{} {release}", maker.fix)))
    };
    let made = image.symlink_metadata().ok().map(|image| modified(&image));
    let is_newer = |path: &&str| {
        let times = changed(&machine.path(path)).zip(made);
        times.is_some_and(|(changed, made)| changed > made)
    };
    let folders = FOLDERS.into_iter().filter(|path| !path.starts_with("run/"));
    let mut policy = files.iter().map(String::as_str).chain(folders);
    // Without a policy a newer folder says nothing.
    if let Some(path) = policy.find(is_newer).filter(|_| !files.is_empty()) {
        let path = machine.root.display(path);
        return bad(format!("{shown} has an older policy: {path} is newer"));
    }
    if let Err(error) = std::fs::File::open(&image) {
        return unknown(why(Some(crate::sys::error::errno(&error)), &error));
    }
    let Some(lister) = machine.program(maker.lister) else {
        return unknown(format!("there is nothing to list {shown} with"));
    };
    let completed = match subprocess::run(&lister, &[&image.to_string_lossy()], LISTER_TIMEOUT) {
        Ok(completed) if completed.code == 0 => completed,
        Ok(completed) => {
            return unknown(format!(
                "{} ended with {}",
                lister.display(),
                completed.code
            ));
        }
        Err(error) => return unknown(error.to_string()),
    };
    match stale(&listed(&completed.text), files) {
        None => Some(Finding::ok(
            Id::Initramfs,
            format!("{shown} has iommuctl and the policy"),
        )),
        Some(Stale::NoProgram) => bad(format!("{shown} goes without iommuctl")),
        Some(Stale::Missing(file)) => bad(format!("{shown} has an older policy: no {file}")),
        Some(Stale::Gone(file)) => bad(format!(
            "{shown} has an older policy: {file}, which is no more"
        )),
    }
}

/// The maker that is in use. Our part tells little: on Debian, there is one for each.
fn maker(machine: &Machine<'_>) -> Option<&'static Maker> {
    let is_there = |programs: &[&str]| programs.iter().any(|p| machine.root.has_program(p));
    let has_hook = |maker: &&Maker| maker.hooks.iter().any(|hook| machine.exists(hook));
    let makers = MAKERS.iter().filter(has_hook);
    makers.max_by_key(|maker| (is_there(maker.lister), is_there(maker.program)))
}

/// The image of the kernel `release`, by the names that Debian, Fedora, and openSUSE and Arch give it.
fn image(machine: &Machine<'_>, release: &str) -> Option<PathBuf> {
    let names = [
        format!("boot/initrd.img-{release}"),
        format!("boot/initramfs-{release}.img"),
        format!("boot/initrd-{release}"),
    ];
    let mut paths = names.iter().map(|name| machine.path(name));
    paths.find(|path| path.is_file())
}

/// Seconds and nanoseconds.
type Time = (i64, i64);

fn modified(metadata: &Metadata) -> Time {
    (metadata.mtime(), metadata.mtime_nsec())
}

/// When what is at `path` was written or put there. `mv` and `cp -p` keep the time of writing, which may be long ago.
fn changed(path: &Path) -> Option<Time> {
    let metadata = path.symlink_metadata().ok()?;
    let put = (metadata.ctime(), metadata.ctime_nsec());
    Some(modified(&metadata).max(put))
}

/// The paths in a list: lsinitramfs has one on each line, lsinitrd lines as `ls -l` has them.
fn listed(text: &str) -> BTreeSet<&str> {
    let path = |line| {
        let line = str::split(line, " -> ").next().unwrap_or_default();
        let word = line.split_ascii_whitespace().next_back()?;
        Some(word.trim_start_matches("./").trim_start_matches('/'))
    };
    text.lines().filter_map(path).collect()
}

fn stale(listed: &BTreeSet<&str>, files: &[String]) -> Option<Stale> {
    let is_program = |path: &&str| *path == PROGRAM || path.strip_prefix("usr/") == Some(PROGRAM);
    if !files.is_empty() && !listed.iter().any(is_program) {
        return Some(Stale::NoProgram);
    }
    let missing = files.iter().find(|file| !listed.contains(file.as_str()));
    if let Some(file) = missing {
        return Some(Stale::Missing(file.clone()));
    }
    let is_policy = |path: &&&str| {
        let (folder, name) = path.rsplit_once('/').unwrap_or_default();
        FOLDERS.contains(&folder) && name.ends_with(".yaml") && !name.starts_with('.')
    };
    let mut policies = listed.iter().filter(is_policy);
    let gone = policies.find(|path| !files.iter().any(|file| file == *path));
    gone.map(|path| Stale::Gone((*path).to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "etc/iommuctl/policy.d/50-site.yaml";

    fn judged(text: &str) -> Option<Stale> {
        stale(&listed(text), &[FILE.to_owned()])
    }

    #[test]
    fn both_listers_are_understood() {
        let lsinitramfs = format!(".\nusr/sbin/iommuctl\n{FILE}\n");
        assert_eq!(judged(&lsinitramfs), None);
        let lsinitrd = format!(
            "Image: /boot/initramfs-7.3.img: 30M\n\
             lrwxrwxrwx   1 root root  8 Jan  1 00:00 sbin -> usr/sbin\n\
             -rwxr-xr-x   1 root root 99 Jan  1 00:00 usr/sbin/iommuctl\n\
             -rw-r--r--   1 root root 99 Jan  1 00:00 {FILE}\n"
        );
        assert_eq!(judged(&lsinitrd), None);
    }

    #[test]
    fn what_is_missing_or_gone_is_named() {
        assert_eq!(judged(FILE), Some(Stale::NoProgram));
        assert_eq!(
            judged("usr/sbin/iommuctl\n"),
            Some(Stale::Missing(FILE.to_owned()))
        );
        let old = "usr/lib/iommuctl/policy.d/10-old.yaml";
        let text = format!("sbin/iommuctl\n{FILE}\n{old}\nusr/lib/iommuctl/policy.d/README\n");
        assert_eq!(judged(&text), Some(Stale::Gone(old.to_owned())));
    }
}

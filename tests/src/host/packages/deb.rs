// SPDX-License-Identifier: GPL-2.0-only
//! The Debian packages: built from the checkout in a Debian of their own, offline, and looked at by lintian. Those of other
//! distributions are in `foreign.rs`.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{ensure, Context as _, Result};

use crate::host::build::cache::{self, Cache};
use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, Log};
use crate::host::build::host_packages;
use crate::host::build::kbuild::list;
use crate::host::build::progress::{say, step};
use crate::host::build::userspace::checkout;

/// What `packaging/source.sh` takes from the checkout.
const SOURCES: [&str; 6] = [
    "Cargo.lock",
    "Cargo.toml",
    "cli",
    "kmod",
    "packaging",
    "policy",
];
/// Where packages are built, as seen from inside the builder. What cargo built stays there for the next time.
const FOLDER: &str = "/build/iommuctl";
const TARGET: &str = "/build/target";

/// The packages, built.
#[derive(Clone, Debug)]
pub struct Packages {
    /// `iommuctl_VERSION_ARCH.deb`.
    pub iommuctl: PathBuf,
    /// `iommu-live-dkms_VERSION_all.deb`.
    pub module: PathBuf,
}

impl Packages {
    /// Builds both from the checkout when it changed since the last time.
    ///
    /// # Errors
    /// When a tool is missing, they do not build, or lintian finds something: the message has the log's path.
    pub fn ensure(cache: &Cache) -> Result<Self> {
        let folder = cache.join("out/deb");
        let mark = folder.join("source");
        let checkout = checkout()?;
        let hash = hash(&checkout)?;
        if std::fs::read_to_string(&mark).is_ok_and(|old| old == hash) {
            return Self::find(&folder);
        }
        let builder = Chroot::ensure_builder(cache, || host_packages::ensure(cache))?;
        let log = cache.log("deb")?;
        step("building the Debian packages", || {
            build(&log, &builder, cache, &checkout, FOLDER, TARGET)
        })?;
        step("looking at them with lintian", || {
            let look = "lintian --fail-on error,warning --tag-display-limit 0 --allow-root /build/*.changes";
            log.run(&mut builder.command("sh", ["-c", look]))
        })?;
        collect(&log, &builder, &folder)?;
        cache::write(&mark, &hash)?;
        let packages = Self::find(&folder)?;
        say(&format!("   {}", packages.iommuctl.display()));
        say(&format!("   {}", packages.module.display()));
        Ok(packages)
    }

    fn find(folder: &Path) -> Result<Self> {
        let entries = std::fs::read_dir(folder)
            .with_context(|| format!("cannot read {}", folder.display()))?;
        let mut files = Vec::new();
        for entry in entries {
            files.push(entry?.path());
        }
        let one = |start: &str| {
            let is_it = |path: &&PathBuf| {
                let name = path.file_name().unwrap_or_default().to_string_lossy();
                name.starts_with(start) && name.ends_with(".deb")
            };
            let found = files.iter().find(is_it).cloned();
            found.with_context(|| format!("no {start}*.deb in {}", folder.display()))
        };
        Ok(Self {
            iommuctl: one("iommuctl_")?,
            module: one("iommu-live-dkms_")?,
        })
    }
}

/// Looks at every script of the checkout with shellcheck.
///
/// # Errors
/// When it has something to say; the log has it.
pub fn check_scripts(cache: &Cache, checkout: &Path) -> Result<()> {
    let builder = Chroot::ensure_builder(cache, || host_packages::ensure(cache))?;
    let log = cache.log("shellcheck")?;
    let mut files = Vec::new();
    for folder in ["packaging", "tests"] {
        list(&checkout.join(folder), &mut files)?;
    }
    let scripts = files.into_iter().filter(|file| {
        // What a script sources begins with no program.
        let is_sourced = |text: &[u8]| {
            text.windows(17)
                .take(200)
                .any(|w| w == b"shellcheck shell=")
        };
        std::fs::read(file).is_ok_and(|text| {
            text.starts_with(b"#!/bin/sh") || text.starts_with(b"#!/bin/bash") || is_sourced(&text)
        })
    });
    let mut shellcheck = builder.tool("usr/bin/shellcheck");
    shellcheck.args([
        "--severity=warning",
        "--external-sources",
        "--source-path=SCRIPTDIR",
    ]);
    log.run(shellcheck.args(scripts))
}

/// Builds the packages once more, elsewhere and from nothing, and compares.
///
/// # Errors
/// When they do not build, or differ by a byte.
pub fn reproduce(cache: &Cache) -> Result<()> {
    let packages = Packages::ensure(cache)?;
    let builder = Chroot::ensure_builder(cache, || host_packages::ensure(cache))?;
    let log = cache.log("deb-again")?;
    let again = cache.join("out/deb-again");
    step(
        "building the Debian packages again, in another folder",
        || {
            let (folder, target) = ("/build/some/other/folder", "/build/some/other/target");
            log.run(
                as_root("rm")
                    .args(["-rf"])
                    .arg(builder.outside("/build/some")),
            )?;
            build(&log, &builder, cache, &checkout()?, folder, target)?;
            log.run(
                as_root("rm")
                    .arg("-rf")
                    .arg(builder.outside("/build/some/other")),
            )?;
            collect(&log, &builder, &again)
        },
    )?;
    for package in [&packages.iommuctl, &packages.module] {
        let other = again.join(package.file_name().unwrap_or_default());
        let same = std::fs::read(package)? == std::fs::read(&other)?;
        ensure!(
            same,
            "{} and {} differ: the packages are not reproducible",
            package.display(),
            other.display()
        );
    }
    say("   the same, byte for byte");
    Ok(())
}

fn build(
    log: &Log,
    builder: &Chroot,
    cache: &Cache,
    checkout: &Path,
    folder: &str,
    target: &str,
) -> Result<()> {
    put_source(log, builder, cache, checkout, folder)?;
    let script = format!(
        "mkdir -p {target} && ln -s {target} {folder}/target && rm -f {folder}/../*.deb && \
         cd {folder} && dpkg-buildpackage --build=binary --no-sign"
    );
    log.run(&mut builder.command("sh", ["-c", &script]))
}

/// Makes the source that packages are built from, as `folder` of the builder.
///
/// # Errors
/// When it cannot be made or copied: the message has the log's path.
pub fn put_source(
    log: &Log,
    builder: &Chroot,
    cache: &Cache,
    checkout: &Path,
    folder: &str,
) -> Result<()> {
    let source = cache.join("run/source");
    log.run(Command::new("rm").arg("-rf").arg(&source))?;
    log.run(Command::new(checkout.join("packaging/source.sh")).arg(&source))?;
    let outside = builder.outside(folder);
    let parent = outside.parent().context("the build folder has no parent")?;
    log.run(
        as_root("rm")
            .args(["-rf", "--one-file-system"])
            .arg(&outside),
    )?;
    log.run(as_root("mkdir").arg("-p").arg(parent))?;
    log.run(
        as_root("cp")
            .args(["-r", "--preserve=mode,timestamps"])
            .args([&source, &outside]),
    )?;
    log.run(Command::new("rm").arg("-rf").arg(&source))
}

/// Takes what was built out of the builder.
fn collect(log: &Log, builder: &Chroot, folder: &Path) -> Result<()> {
    log.run(Command::new("rm").arg("-rf").arg(folder))?;
    log.run(Command::new("mkdir").arg("-p").arg(folder))?;
    let built = builder.outside("/build");
    let take = "find \"$1\" -name '*.deb' -exec cp {} \"$2\" \\;";
    log.run(
        Command::new("sh")
            .args(["-c", take, "sh"])
            .arg(built)
            .arg(folder),
    )
}

/// Everything the packages depend on.
fn hash(checkout: &Path) -> Result<String> {
    let mut hasher = DefaultHasher::new();
    for name in SOURCES {
        let path = checkout.join(name);
        let mut files = Vec::new();
        if path.is_dir() {
            list(&path, &mut files)?;
            files.sort();
        } else {
            files.push(path);
        }
        for file in files {
            let content =
                std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            (file.strip_prefix(checkout).unwrap_or(&file), content).hash(&mut hasher);
        }
    }
    Ok(format!("{:016x}", hasher.finish()))
}

// SPDX-License-Identifier: GPL-2.0-only
//! The programs of this workspace that go into the virtual machine, linked so that they need no library there.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::cache::Cache;
use crate::host::build::command::{cargo, in_path, Log};
use crate::host::build::progress::step;

/// The programs, built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `iommuctl` itself.
    pub iommuctl: PathBuf,
    /// Process 1 of the virtual machine.
    pub guest: PathBuf,
}

impl Programs {
    /// Builds both from the checkout, for a machine of this architecture.
    ///
    /// # Errors
    /// When they do not compile: the message has the log's path.
    pub fn build(cache: &Cache, checkout: &Path, arch: Arch) -> Result<Self> {
        let target = target_folder(checkout).join("guest");
        let triple = arch.target();
        step("building iommuctl and the guest program", || {
            let log = cache.log("guest")?;
            ensure_target(&log, checkout, triple)?;
            let mut command = cargo();
            command
                .current_dir(checkout)
                .args(["build", "--release", "--target", triple]);
            command.args([
                "-p",
                "iommuctl",
                "-p",
                "iommuctl-tests",
                "--bin",
                "iommuctl",
                "--bin",
                "guest",
            ]);
            command.arg("--target-dir").arg(&target);
            command.env("RUSTFLAGS", arch.rustflags());
            log.run(&mut command)
        })?;
        let folder = target.join(triple).join("release");
        Ok(Self {
            iommuctl: folder.join("iommuctl"),
            guest: folder.join("guest"),
        })
    }
}

/// Makes sure that the host's Rust has a standard library for `triple`; only rustup can be asked to fetch one.
fn ensure_target(log: &Log, checkout: &Path, triple: &str) -> Result<()> {
    let mut rustc = Command::new(std::env::var_os("RUSTC").unwrap_or_else(|| "rustc".into()));
    rustc.current_dir(checkout);
    let folder = log.capture(rustc.args(["--print", "target-libdir", "--target", triple]))?;
    if Path::new(folder.trim()).is_dir() {
        return Ok(());
    }
    if !in_path("rustup") {
        bail!(
            "this Rust cannot build for {triple}: there is no {}; install Rust with rustup (https://rustup.rs), \
             or the package of your distribution that has the standard library for {triple}",
            folder.trim()
        );
    }
    let mut rustup = Command::new("rustup");
    log.run(rustup.current_dir(checkout).args(["target", "add", triple]))
}

/// Where cargo puts what it builds.
pub fn target_folder(checkout: &Path) -> PathBuf {
    std::env::var_os("CARGO_TARGET_DIR").map_or_else(|| checkout.join("target"), PathBuf::from)
}

/// The checkout this program was built from.
///
/// # Errors
/// When the program's source is no longer where it was.
pub fn checkout() -> Result<PathBuf> {
    let tests = Path::new(env!("CARGO_MANIFEST_DIR"));
    let root = tests.parent().context("the tests folder has no parent")?;
    root.canonicalize()
        .with_context(|| format!("cannot find the checkout {}", root.display()))
}

// SPDX-License-Identifier: GPL-2.0-only
//! The programs of this workspace that go into the virtual machine, linked so that they need no library there.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::cache::Cache;
use super::command::cargo;
use super::progress::step;

const TARGET: &str = "x86_64-unknown-linux-gnu";

/// The programs, built.
#[derive(Clone, Debug)]
pub struct Programs {
    /// `iommuctl` itself.
    pub iommuctl: PathBuf,
    /// Process 1 of the virtual machine.
    pub guest: PathBuf,
}

impl Programs {
    /// Builds both from the checkout.
    ///
    /// # Errors
    /// When they do not compile: the message has the log's path.
    pub fn build(cache: &Cache, checkout: &Path) -> Result<Self> {
        let target = target_folder(checkout).join("guest");
        step("building iommuctl and the guest program", || {
            let log = cache.log("guest")?;
            let mut command = cargo();
            command
                .current_dir(checkout)
                .args(["build", "--release", "--target", TARGET]);
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
            command.env("RUSTFLAGS", "-C target-feature=+crt-static");
            log.run(&mut command)
        })?;
        let folder = target.join(TARGET).join("release");
        Ok(Self {
            iommuctl: folder.join("iommuctl"),
            guest: folder.join("guest"),
        })
    }
}

/// Where cargo puts what it builds.
fn target_folder(checkout: &Path) -> PathBuf {
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

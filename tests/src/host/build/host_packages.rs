// SPDX-License-Identifier: GPL-2.0-only
//! The few packages that the host itself needs; everything else comes from the root in the cache.

use anyhow::{bail, Result};

use crate::host::build::cache::Cache;
use crate::host::build::command::{as_root, in_path};
use crate::host::build::progress::{say, step};

/// The program that makes a small Debian from nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bootstrap {
    /// `mmdebstrap`: fast.
    Mmdebstrap,
    /// `debootstrap`: slower, and found on more distributions.
    Debootstrap,
}

/// Where Debian's signing keys are after the keyring package is installed.
pub const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";

/// Makes sure that a bootstrap program and Debian's signing keys are here, installing them where apt-get can.
///
/// # Errors
/// When something is missing and cannot be installed: the message says what, and what to do.
pub fn ensure(cache: &Cache) -> Result<Bootstrap> {
    for program in ["unshare", "chroot", "mount"] {
        if !in_path(program) {
            bail!(
                "`{program}` is not in PATH; it belongs to util-linux and coreutils: install these"
            );
        }
    }
    if !nix::unistd::geteuid().is_root() {
        if !in_path("sudo") {
            bail!(
                "making a Debian root needs the rights of root: run this as root, or install sudo"
            );
        }
        say("   some steps need the rights of root: sudo may ask for your password");
    }
    let present = installed();
    let keys = std::path::Path::new(KEYRING).exists();
    if let (Some(program), true) = (present, keys) {
        return Ok(program);
    }
    let mut wanted = Vec::new();
    if present.is_none() {
        wanted.push("mmdebstrap");
    }
    if !keys {
        wanted.push("debian-archive-keyring");
    }
    let list = wanted.join(" ");
    if !in_path("apt-get") {
        bail!("missing on this system: {list}. Install these (debootstrap will do for mmdebstrap), then run this again");
    }
    step(&format!("installing {list} on this system"), || {
        let log = cache.log("host-packages")?;
        log.run(as_root("env").args(["DEBIAN_FRONTEND=noninteractive", "apt-get", "update"]))?;
        let install = [
            "DEBIAN_FRONTEND=noninteractive",
            "apt-get",
            "install",
            "-y",
            "--no-install-recommends",
        ];
        log.run(as_root("env").args(install).args(&wanted))
    })?;
    match installed() {
        Some(program) => Ok(program),
        None => {
            bail!("apt-get installed {list}, but neither mmdebstrap nor debootstrap is in PATH")
        }
    }
}

fn installed() -> Option<Bootstrap> {
    if in_path("mmdebstrap") {
        return Some(Bootstrap::Mmdebstrap);
    }
    in_path("debootstrap").then_some(Bootstrap::Debootstrap)
}

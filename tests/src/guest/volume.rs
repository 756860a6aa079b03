// SPDX-License-Identifier: GPL-2.0-only
//! A mounted file system on a disk, for targets that are given as a mount point.

use std::process::Command;

use anyhow::{ensure, Context as _, Result};
use nix::mount::{mount, umount, MsFlags};

use super::modules;

/// A file system that is unmounted when this is dropped.
#[derive(Debug)]
pub struct Volume {
    folder: &'static str,
}

impl Volume {
    /// Makes a file system on `device`, such as `/dev/nvme1n1`, and mounts it at `/mnt`.
    ///
    /// # Errors
    /// When it cannot be made or mounted.
    pub fn make(device: &str) -> Result<Self> {
        modules::load_stock("demand", "ext4")?;
        // Bigger inodes than the default: without room for dates after 2038 the kernel warns at every mount.
        let output = Command::new("/bin/busybox")
            .args(["mke2fs", "-F", "-I", "256", device])
            .output();
        let output = output.context("cannot start busybox mke2fs")?;
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        ensure!(
            output.status.success(),
            "mke2fs {device} failed ({}): {said}",
            output.status
        );
        let folder = "/mnt";
        mount(
            Some(device),
            folder,
            Some("ext2"),
            MsFlags::empty(),
            None::<&str>,
        )
        .with_context(|| format!("cannot mount {device} at {folder}"))?;
        Ok(Self { folder })
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        // The machine ends soon after; a busy file system is no loss.
        let _ = umount(self.folder);
    }
}

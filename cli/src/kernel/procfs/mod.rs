// SPDX-License-Identifier: GPL-2.0-only
//! Typed readers of the parts of procfs that matter here: mounts, swaps, routes, open files, capabilities, the kernel's
//! command line and configuration (proc(5)).

mod boot_parameter;
mod capabilities;
mod cpu_time;
mod identity;
mod kernel_options;
mod processes;
mod routes;
mod swaps;

use std::io::Cursor;
use std::path::Path;

use nix::sys::statfs::PROC_SUPER_MAGIC;
use procfs::process::{MountInfos, Status};
use procfs::FromBufRead;

pub use boot_parameter::PolicyWord;
pub use capabilities::Capabilities;
pub use identity::login_uid;
pub use kernel_options::Kernel;

use crate::sys::kernfs::{KernFs, KernFsError};

/// The largest `mountinfo` or `cpuinfo` that is read, in bytes: a container host has thousands of mounts.
const LARGE_FILE_LIMIT: usize = 16 * 1024 * 1024;

/// An open procfs.
#[derive(Debug)]
pub struct Proc {
    tree: KernFs,
    /// Whether this is the procfs of the running system, and not a tree for tests.
    real: bool,
}

impl Proc {
    /// Opens `/proc`, or `root` if it is given. `/proc` must be a procfs; another root need not be.
    pub fn open(root: Option<&Path>) -> Result<Self, KernFsError> {
        let tree = match root {
            Some(root) => KernFs::open(root, None)?,
            None => KernFs::open(Path::new("/proc"), Some((PROC_SUPER_MAGIC, "proc")))?,
        };
        let real = root.is_none();
        Ok(Self { tree, real })
    }

    /// The directory of the calling process. `self` is a link to it, and [`KernFs`] follows no links.
    fn me(&self) -> Result<String, KernFsError> {
        Ok(self.tree.link("self")?.unwrap_or_else(|| "self".to_owned()))
    }

    /// Parses a file of the calling process with the procfs crate; `None` if it is missing. Names in it that are not UTF-8 are
    /// read lossily: somebody who may mount a file system must not be able to hide the other mounts.
    fn of_this_process<T: FromBufRead>(&self, name: &str) -> Result<Option<T>, KernFsError> {
        let path = format!("{}/{name}", self.me()?);
        let Some(bytes) = self.tree.bytes(&path, LARGE_FILE_LIMIT)? else {
            return Ok(None);
        };
        let text = String::from_utf8_lossy(&bytes).into_owned();
        match T::from_buf_read(Cursor::new(text)) {
            Ok(parsed) => Ok(Some(parsed)),
            Err(_) => Err(KernFsError::NotText(self.tree.display(&path))),
        }
    }

    /// The lines of a file, which need not be UTF-8; none if it is missing.
    fn lines(&self, path: &str) -> Result<Vec<String>, KernFsError> {
        let bytes = self.tree.bytes(path, LARGE_FILE_LIMIT)?.unwrap_or_default();
        let text = String::from_utf8_lossy(&bytes).into_owned();
        Ok(text.lines().map(str::to_owned).collect())
    }

    /// The mounts this process can see, in the order in which they were made.
    pub fn mounts(&self) -> Result<MountInfos, KernFsError> {
        let mounts = self.of_this_process("mountinfo")?;
        Ok(mounts.unwrap_or_else(|| MountInfos(Vec::new())))
    }

    /// The capabilities this process has; `None` if they cannot be read.
    #[must_use]
    pub fn capabilities(&self) -> Option<Capabilities> {
        let status: Option<Status> = self.of_this_process("status").ok().flatten();
        status.map(|s| Capabilities::from_effective(s.capeff))
    }
}

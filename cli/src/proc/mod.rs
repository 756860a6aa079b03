// SPDX-License-Identifier: GPL-2.0-only
//! Typed readers of the parts of procfs that matter here: mounts, capabilities, the kernel's command line and
//! configuration (proc(5)).

mod capabilities;
mod kernel;
mod policy_word;

use std::io::Cursor;
use std::path::Path;

use nix::sys::statfs::PROC_SUPER_MAGIC;
use procfs::process::{MountInfos, Status};
use procfs::FromBufRead;

pub use capabilities::Capabilities;
pub use kernel::{Kernel, KernelDefault};
pub use policy_word::PolicyWord;

use crate::tree::{Tree, TreeError};

/// `mountinfo` and `cpuinfo` grow with the machine: a container host has thousands of mounts.
const LARGE_FILE_LIMIT: usize = 16 * 1024 * 1024;

/// procfs, opened.
#[derive(Debug)]
pub struct Proc {
    tree: Tree,
    /// Whether this is the procfs of the running system, and not a tree for tests.
    real: bool,
}

impl Proc {
    /// Opens `/proc`, or `root` if it is given. `/proc` must be a procfs; another root need not be.
    ///
    /// # Errors
    ///
    /// Those of [`Tree::open`].
    pub fn open(root: Option<&Path>) -> Result<Self, TreeError> {
        let tree = match root {
            Some(root) => Tree::open(root, None)?,
            None => Tree::open(Path::new("/proc"), Some((PROC_SUPER_MAGIC, "proc")))?,
        };
        let real = root.is_none();
        Ok(Self { tree, real })
    }

    /// A file of the calling process, parsed by the procfs crate; `None` if it is missing or does not parse.
    fn of_this_process<T: FromBufRead>(&self, name: &str) -> Result<Option<T>, TreeError> {
        // `self` is a link to the directory of the process, and the tree opens nothing through links.
        let me = self.tree.link("self")?.unwrap_or_else(|| "self".to_owned());
        let bytes = self.tree.bytes(&format!("{me}/{name}"), LARGE_FILE_LIMIT)?;
        Ok(bytes.and_then(|b| T::from_buf_read(Cursor::new(b)).ok()))
    }

    /// The mounts this process can see, in the order in which they were made.
    ///
    /// # Errors
    ///
    /// [`TreeError`], if they cannot be read.
    pub fn mounts(&self) -> Result<MountInfos, TreeError> {
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

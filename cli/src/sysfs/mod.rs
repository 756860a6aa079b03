// SPDX-License-Identifier: GPL-2.0-only
//! Typed readers of the parts of sysfs that matter here, and the one place that opens something in it for writing.
//!
//! | part | source |
//! | --- | --- |
//! | `kernel/iommu_groups` | `Documentation/ABI/testing/sysfs-kernel-iommu_groups`, `drivers/iommu/iommu.c` |
//! | `class/iommu` | `Documentation/ABI/testing/sysfs-class-iommu` |
//! | devices | `Documentation/ABI/testing/sysfs-bus-pci`, `sysfs-devices-removable` |
//! | `kernel/iommu_live` | the `iommu_live` module |

mod devices;
mod groups;
mod iommus;
mod module;

use std::path::Path;

use nix::sys::statfs::SYSFS_MAGIC;

pub use iommus::Iommu;
pub use module::Module;

use crate::tree::{Tree, TreeError};

/// sysfs, opened.
#[derive(Debug)]
pub struct Sysfs {
    tree: Tree,
}

impl Sysfs {
    /// Opens `/sys`, or `root` if it is given. `/sys` must be a sysfs; another root need not be, which is the seam for
    /// tests.
    ///
    /// # Errors
    ///
    /// Those of [`Tree::open`].
    pub fn open(root: Option<&Path>) -> Result<Self, TreeError> {
        let tree = match root {
            Some(root) => Tree::open(root, None)?,
            None => Tree::open(Path::new("/sys"), Some((SYSFS_MAGIC, "sysfs")))?,
        };
        Ok(Self { tree })
    }

    /// The tree itself, for what has no typed reader.
    #[must_use]
    pub fn tree(&self) -> &Tree {
        &self.tree
    }
}

/// What was found, and what could not be read on the way. One bad attribute does not hide the rest.
#[derive(Debug, Default)]
pub struct Problems(Vec<TreeError>);

impl Problems {
    /// The value of `result`, or nothing, having noted the problem.
    fn note<T>(&mut self, result: Result<Option<T>, TreeError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.0.push(error);
            None
        })
    }

    /// The problems, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = &TreeError> {
        self.0.iter()
    }
}

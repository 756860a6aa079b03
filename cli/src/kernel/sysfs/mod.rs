// SPDX-License-Identifier: GPL-2.0-only
//! Typed readers of the parts of sysfs that matter here, and the one place that opens something in it for writing.
//!
//! | part | source |
//! | --- | --- |
//! | `kernel/iommu_groups` | `Documentation/ABI/testing/sysfs-kernel-iommu_groups`, `drivers/iommu/iommu.c` |
//! | `class/iommu` | `Documentation/ABI/testing/sysfs-class-iommu` |
//! | devices | `Documentation/ABI/testing/sysfs-bus-pci`, `sysfs-devices-removable` |
//! | `bus/*/drivers` | `Documentation/driver-api/driver-model/binding.rst`, `drivers/base/bus.c` |
//! | `class/block`, `class/net` | `Documentation/ABI/stable/sysfs-block`, `Documentation/ABI/testing/sysfs-class-net` |
//! | `kernel/iommu_live` | the `iommu_live` module |

mod cleanups;
mod devices;
mod drivers;
mod groups;
mod iommus;
mod module;
mod objects;

use std::path::Path;

use nix::sys::statfs::SYSFS_MAGIC;

pub use cleanups::{Cleanup, Cleanups};
pub use devices::Bottom;
pub use iommus::{by_driver, Iommu};
pub use module::{Module, TRIPPED};
pub use objects::Object;

use crate::sys::kernfs::{KernFs, KernFsError};

/// sysfs, opened.
#[derive(Debug)]
pub struct Sysfs {
    kernfs: KernFs,
    /// Whether this is the sysfs of the running system, and not a tree for tests.
    real: bool,
}

impl Sysfs {
    /// Opens `/sys`, or `root` if it is given. `/sys` must be a sysfs; another root need not be, which is the seam for
    /// tests.
    pub fn open(root: Option<&Path>) -> Result<Self, KernFsError> {
        let kernfs = match root {
            Some(root) => KernFs::open(root, None)?,
            None => KernFs::open(Path::new("/sys"), Some((SYSFS_MAGIC, "sysfs")))?,
        };
        let real = root.is_none();
        Ok(Self { kernfs, real })
    }

    /// Whether this is the sysfs of the running system. What is in `/dev` says nothing about another.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.real
    }

    /// The tree itself, for what has no typed reader.
    #[must_use]
    pub fn kernfs(&self) -> &KernFs {
        &self.kernfs
    }
}

/// What was found, and what could not be read on the way. One bad attribute does not hide the rest.
#[derive(Debug, Default)]
pub struct Problems(Vec<KernFsError>);

impl Problems {
    /// The value of `result`, or nothing, having noted the problem.
    fn note<T>(&mut self, result: Result<Option<T>, KernFsError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.0.push(error);
            None
        })
    }

    /// The problems, in the order in which they were met.
    pub fn iter(&self) -> impl Iterator<Item = &KernFsError> {
        self.0.iter()
    }
}

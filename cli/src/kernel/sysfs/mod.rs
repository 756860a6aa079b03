// SPDX-License-Identifier: GPL-2.0-only
//! Typed readers of the parts of sysfs that matter here, and the only place that opens an attribute for writing.
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

/// An open sysfs.
#[derive(Debug)]
pub struct Sysfs {
    kernfs: KernFs,
    /// Whether this is the sysfs of the running system, and not a tree for tests.
    real: bool,
}

impl Sysfs {
    /// Opens `/sys`, or `root` for tests. `/sys` must be a sysfs; another root need not be.
    pub fn open(root: Option<&Path>) -> Result<Self, KernFsError> {
        let kernfs = match root {
            Some(root) => KernFs::open(root, None)?,
            None => KernFs::open(Path::new("/sys"), Some((SYSFS_MAGIC, "sysfs")))?,
        };
        let real = root.is_none();
        Ok(Self { kernfs, real })
    }

    /// Whether this is the sysfs of the running system. `/dev` does not match any other.
    #[must_use]
    pub fn is_real(&self) -> bool {
        self.real
    }

    /// The kernel file system, for parts without a typed reader.
    #[must_use]
    pub fn kernfs(&self) -> &KernFs {
        &self.kernfs
    }
}

/// The errors of reading single attributes, so that one bad attribute does not hide the rest.
#[derive(Debug, Default)]
pub struct Problems(Vec<KernFsError>);

impl Problems {
    /// Returns the value of `result`; on an error, notes it and returns nothing.
    fn note<T>(&mut self, result: Result<Option<T>, KernFsError>) -> Option<T> {
        result.unwrap_or_else(|error| {
            self.0.push(error);
            None
        })
    }

    /// The errors, in the order in which they occurred.
    pub fn iter(&self) -> impl Iterator<Item = &KernFsError> {
        self.0.iter()
    }
}

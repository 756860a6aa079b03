// SPDX-License-Identifier: GPL-2.0-only
//! The objects that devices provide: block devices (`class/block`) and network interfaces (`class/net`).

use super::Sysfs;
use crate::sys::kernfs::KernFsError;

/// A block device or a network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Object {
    /// Its name.
    pub name: String,
    /// Its directory, relative to the root of sysfs.
    pub path: String,
}

impl Object {
    /// Whether it belongs to the device in the directory `device`, directly.
    #[must_use]
    pub fn is_below(&self, device: &str) -> bool {
        let rest = self.path.strip_prefix(device);
        rest.is_some_and(|rest| rest.starts_with('/'))
    }
}

impl Sysfs {
    /// Every block device, disks and partitions.
    pub fn blocks(&self) -> Result<Vec<Object>, KernFsError> {
        self.class("block")
    }

    /// Every network interface of this network namespace.
    pub fn interfaces(&self) -> Result<Vec<Object>, KernFsError> {
        self.class("net")
    }

    fn class(&self, class: &str) -> Result<Vec<Object>, KernFsError> {
        let at = format!("class/{class}");
        let mut found = Vec::new();
        for name in self.kernfs.names(&at)?.unwrap_or_default() {
            // Skip the files in `class/net` that are not links: they are not interfaces.
            if let Some(path) = self.kernfs.link(&format!("{at}/{name}"))? {
                found.push(Object { name, path });
            }
        }
        Ok(found)
    }

    /// The name of the block device in the directory `path` for people: `dm-0 (vg-root)`.
    pub fn block_title(&self, name: &str, path: &str) -> Result<String, KernFsError> {
        let mapped = self.kernfs.text(&format!("{path}/dm/name"))?;
        Ok(mapped.map_or_else(|| name.to_owned(), |m| format!("{name} ({m})")))
    }
}

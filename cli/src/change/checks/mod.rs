// SPDX-License-Identifier: GPL-2.0-only
//! Checks what would be lost if a device went away for a moment, before a rebind changes anything.
//!
//! Each check has its own message, and its own flag that overrides it. If something cannot be read, the rebind is refused as
//! well, and no flag overrides that.
//!
//! Not detected are: network file systems (a root on NFS needs an interface that no mount names), routes outside the main
//! table, connections other than SSH, and programs that use a device without a mount, such as one that reads a raw disk, a
//! sound card or a screen.

mod drivers;
mod network;
mod storage;
mod vfio;

use std::collections::BTreeSet;

use iommuctl_policy::{Device, Group};
use serde::Serialize;

use crate::kernel::procfs::Proc;
use crate::kernel::sysfs::{Object, Sysfs};
use crate::sys::kernfs::KernFsError;

/// A condition that a rebind is checked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Check {
    /// A file system on it is mounted, or the kernel has claimed a disk of it otherwise.
    Mounted,
    /// The kernel swaps to it.
    Swap,
    /// A disk of it is part of another block device: LVM, RAID, encryption, a cache.
    Stacked,
    /// A default route leads through it.
    DefaultRoute,
    /// The user's own connection comes in through it.
    OwnConnection,
    /// A program has it open through VFIO.
    Vfio,
    /// Its driver cannot be unbound, or cannot be bound again.
    LeftBound,
    /// Other devices depend on it, and would go with it.
    Others,
}

impl Check {
    /// Every check there is.
    pub const ALL: [Self; 8] = [
        Self::Mounted,
        Self::Swap,
        Self::Stacked,
        Self::DefaultRoute,
        Self::OwnConnection,
        Self::Vfio,
        Self::LeftBound,
        Self::Others,
    ];

    /// The flag that overrides it.
    #[must_use]
    pub fn flag(self) -> &'static str {
        match self {
            Self::Mounted => "--allow-mounted",
            Self::Swap => "--allow-swap",
            Self::Stacked => "--allow-stacked",
            Self::DefaultRoute => "--allow-default-route",
            Self::OwnConnection => "--allow-own-connection",
            Self::Vfio => "--allow-vfio",
            Self::LeftBound => "--allow-left-bound",
            Self::Others => "--allow-others",
        }
    }
}

/// A reason against a rebind.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct CheckFinding {
    /// The check.
    pub check: Check,
    /// The device in question.
    pub device: String,
    /// The message.
    pub message: String,
    /// The flag that overrides it.
    pub flag: &'static str,
}

impl CheckFinding {
    fn new(check: Check, device: &Device, message: String) -> Self {
        let flag = check.flag();
        let device = device.name.clone();
        Self {
            check,
            device,
            message,
            flag,
        }
    }
}

/// The block devices and PCI devices of the machine, read once for any number of groups.
#[derive(Debug)]
pub struct Present {
    /// Every block device.
    blocks: Vec<Object>,
    /// The block devices that others are stacked on, each with the one on top.
    parts: Vec<(Object, Object)>,
    /// Every PCI device: its name, and its directory.
    pci: Vec<(String, String)>,
}

impl Present {
    /// Reads the current state.
    pub fn read(sysfs: &Sysfs) -> Result<Self, KernFsError> {
        let kernfs = sysfs.kernfs();
        let blocks = sysfs.blocks()?;
        let mut parts = Vec::new();
        for block in &blocks {
            let at = format!("{}/slaves", block.path);
            for name in kernfs.names(&at)?.unwrap_or_default() {
                if let Some(path) = kernfs.link(&format!("{at}/{name}"))? {
                    parts.push((Object { name, path }, block.clone()));
                }
            }
        }
        let mut pci = Vec::new();
        for name in kernfs.names("bus/pci/devices")?.unwrap_or_default() {
            if let Some(path) = sysfs.device_path("pci", &name)? {
                pci.push((name, path));
            }
        }
        Ok(Self { blocks, parts, pci })
    }
}

/// Makes the checks.
#[derive(Clone, Copy, Debug)]
pub struct Inspector<'a> {
    /// The open sysfs.
    pub sysfs: &'a Sysfs,
    /// The open procfs.
    pub proc: &'a Proc,
}

impl Inspector<'_> {
    /// All reasons against unbinding the drivers that hold `group`.
    pub fn findings(&self, group: &Group) -> Result<Vec<CheckFinding>, KernFsError> {
        self.findings_among(group, &Present::read(self.sysfs)?)
    }

    /// All reasons against unbinding the drivers that hold `group`, with `present` read before: for many groups, none of which
    /// is changed yet.
    pub fn findings_among(
        &self,
        group: &Group,
        present: &Present,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let devices: Vec<&Device> = group.holders().collect();
        let mut findings = self.storage(&devices, present)?;
        findings.extend(self.network(&devices)?);
        findings.extend(self.vfio(group)?);
        findings.extend(self.drivers(&devices, present)?);
        Ok(findings)
    }
}

/// The devices of `group` to unbind, given `findings` and the overridden checks in `allowed`: those whose driver holds the
/// group, without those found by [`Check::LeftBound`], and with those found by [`Check::Vfio`], each if that is overridden.
pub fn to_unbind<'a>(
    group: &'a Group,
    findings: &'a [CheckFinding],
    allowed: &'a BTreeSet<Check>,
) -> impl Iterator<Item = &'a Device> {
    let found = |check: Check, device: &Device| {
        let mut here = findings.iter().filter(|f| f.device == device.name);
        allowed.contains(&check) && here.any(|f| f.check == check)
    };
    group
        .devices
        .iter()
        .filter(move |d| (d.holds_group() && !found(Check::LeftBound, d)) || found(Check::Vfio, d))
}

/// Lists names for a sentence; only the first few are named.
fn some_of(names: &[String]) -> String {
    const MAX_NAMES: usize = 4;
    match names.get(MAX_NAMES..) {
        None | Some([]) => names.join(", "),
        Some(rest) => format!("{} and {} more", names[..MAX_NAMES].join(", "), rest.len()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::group;

    #[test]
    fn every_check_has_a_flag_of_its_own() {
        let flags: BTreeSet<&str> = Check::ALL.iter().map(|c| c.flag()).collect();
        assert_eq!(flags.len(), Check::ALL.len());
    }

    #[test]
    fn what_is_unbound_depends_on_what_was_allowed() {
        let group = group(
            7,
            "DMA",
            &[
                ("0000:01:00.0", Some("nvme")),
                ("0000:01:00.1", Some("vfio-pci")),
                ("0000:00:01.0", Some("pcieport")),
            ],
        );
        let finding = |check, n: usize| CheckFinding::new(check, &group.devices[n], String::new());
        let findings = [finding(Check::LeftBound, 0), finding(Check::Vfio, 1)];
        let names = |allowed: &[Check]| {
            let allowed = allowed.iter().copied().collect();
            let devices = to_unbind(&group, &findings, &allowed);
            devices.map(|d| d.name.clone()).collect::<Vec<_>>()
        };
        assert_eq!(names(&[]), ["0000:01:00.0"]);
        assert_eq!(names(&[Check::Vfio]), ["0000:01:00.0", "0000:01:00.1"]);
        assert!(names(&[Check::LeftBound]).is_empty());
    }

    #[test]
    fn long_lists_are_cut() {
        let names: Vec<String> = (0..6).map(|n| n.to_string()).collect();
        assert_eq!(some_of(&names), "0, 1, 2, 3 and 2 more");
        assert_eq!(some_of(&names[..4]), "0, 1, 2, 3");
    }
}

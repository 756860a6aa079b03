// SPDX-License-Identifier: GPL-2.0-only
//! The system a command works on, opened once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use iommuctl_policy::{GroupId, Inventory};

use crate::advice;
use crate::args::Global;
use crate::exit::{Exit, Failure};
use crate::pci_ids::PciNames;
use crate::proc::Proc;
use crate::resolve::{ResolveError, Resolver};
use crate::sysfs::{Problems, Sysfs};
use crate::target::Target;

/// The kernel's file systems, and where names come from.
#[derive(Debug)]
pub struct Context {
    /// The open sysfs.
    pub sysfs: Sysfs,
    /// The open procfs.
    pub proc: Proc,
    pci_ids: Option<PathBuf>,
}

impl Context {
    /// Opens what the global options say.
    pub fn open(global: &Global) -> anyhow::Result<Self> {
        Ok(Self {
            sysfs: Sysfs::open(global.sysfs_root.as_deref())?,
            proc: Proc::open(global.proc_root.as_deref())?,
            pci_ids: global.pci_ids.clone(),
        })
    }

    /// The groups of the machine; without any, a failure that says how to get some.
    pub fn inventory(&self, problems: &mut Problems) -> anyhow::Result<Inventory> {
        let inventory = self.sysfs.inventory(problems)?;
        if inventory.is_empty() {
            let failure = Failure::new(
                Exit::Failed,
                "this machine has no IOMMU groups: it has no IOMMU, or the IOMMU is off",
            );
            return Err(failure.with_advice(self.how_to_enable_iommu()).into());
        }
        Ok(inventory)
    }

    /// The same, with what only a policy asks for about each device.
    pub fn inventory_for_policy(&self, problems: &mut Problems) -> anyhow::Result<Inventory> {
        let inventory = self.inventory(problems)?;
        Ok(inventory.with_devices(|device| self.sysfs.identify(device, problems)))
    }

    /// The groups of `inventory` that all of `targets` stand for, each once, by number.
    pub fn resolve(
        &self,
        targets: &[Target],
        inventory: &Inventory,
    ) -> Result<BTreeSet<GroupId>, ResolveError> {
        let resolver = Resolver {
            sysfs: &self.sysfs,
            proc: &self.proc,
            inventory,
        };
        resolver.resolve(targets)
    }

    /// What turns an IOMMU on, here.
    pub fn how_to_enable_iommu(&self) -> Vec<String> {
        advice::how_to_enable_iommu(&self.proc.kernel(), std::env::consts::ARCH)
    }

    /// Names for the devices of `inventory`.
    pub fn names(&self, inventory: &Inventory) -> PciNames {
        PciNames::load(self.pci_ids.as_deref(), inventory)
    }
}

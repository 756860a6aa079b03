// SPDX-License-Identifier: GPL-2.0-only
//! The system a command works on, opened once.

use std::collections::BTreeSet;
use std::path::PathBuf;

use iommuctl_policy::{GroupId, Inventory};

use super::enable_iommu::how_to_enable_iommu;
use super::pci_ids::PciNames;
use super::procfs::Proc;
use super::resolve::{ResolveError, Resolver};
use super::sysfs::{Problems, Sysfs};
use super::target::Target;
use crate::exit::{Exit, Failure};
use crate::sys::trusted::{Root, TrustError};

/// Where the machine is: for tests, a tree of plain files. Only flags say so, and no environment variable: one that is
/// inherited unseen would redirect what root trusts.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Roots {
    /// Where sysfs is; anywhere else than /sys is not checked to be a sysfs (for tests)
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub sysfs_root: Option<PathBuf>,
    /// Where procfs is (for tests)
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub proc_root: Option<PathBuf>,
    /// The PCI id database to take names from (for tests)
    #[arg(long, global = true, hide = true, value_name = "FILE")]
    pub pci_ids: Option<PathBuf>,
    /// Where /etc, /run and /usr are (for tests)
    #[arg(long, global = true, hide = true, value_name = "DIR")]
    pub root: Option<PathBuf>,
    /// Run the programs below --root, which are otherwise not run (for tests)
    #[arg(long, global = true, hide = true, requires = "root")]
    pub run_programs: bool,
}

impl Roots {
    /// Opens the root of the configuration files.
    pub fn open_root(&self) -> Result<Root, TrustError> {
        let root = Root::open(self.root.as_deref())?;
        Ok(match self.run_programs {
            true => root.with_programs(),
            false => root,
        })
    }
}

/// The open kernel file systems, and the sources of names.
#[derive(Debug)]
pub struct Context {
    /// The open sysfs.
    pub sysfs: Sysfs,
    /// The open procfs.
    pub proc: Proc,
    /// The root for tests; `None` for `/`.
    pub root: Option<PathBuf>,
    /// The directory in the place of `/run` for tests; `None` for `/run`.
    pub run_root: Option<PathBuf>,
    pci_ids: Option<PathBuf>,
}

impl Context {
    /// Opens the file systems below `roots`.
    pub fn open(roots: &Roots) -> anyhow::Result<Self> {
        Ok(Self {
            sysfs: Sysfs::open(roots.sysfs_root.as_deref())?,
            proc: Proc::open(roots.proc_root.as_deref())?,
            root: roots.root.clone(),
            run_root: roots.root.as_ref().map(|root| root.join("run")),
            pci_ids: roots.pci_ids.clone(),
        })
    }

    /// The groups of the machine. If there are none, fails with the advice how to enable the IOMMU.
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

    /// The groups of the machine, with the properties of devices that only policies match.
    pub fn inventory_for_policy(&self, problems: &mut Problems) -> anyhow::Result<Inventory> {
        let inventory = self.inventory(problems)?;
        Ok(inventory.with_devices(|device| self.sysfs.identify(device, problems)))
    }

    /// The groups in `inventory` that `targets` stand for, each once, by number.
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

    /// The directory of the block device that `target` names, is the node of, or is the mount point of a file system on; `None`
    /// for any other target.
    pub fn block_device(
        &self,
        target: &Target,
        inventory: &Inventory,
    ) -> Result<Option<String>, ResolveError> {
        let resolver = Resolver {
            sysfs: &self.sysfs,
            proc: &self.proc,
            inventory,
        };
        resolver.block_device(target)
    }

    /// How to enable the IOMMU on this machine, one line each.
    pub fn how_to_enable_iommu(&self) -> Vec<String> {
        how_to_enable_iommu(&self.proc.kernel(), std::env::consts::ARCH)
    }

    /// Loads the names of the devices in `inventory`.
    pub fn names(&self, inventory: &Inventory) -> PciNames {
        PciNames::load(self.pci_ids.as_deref(), inventory)
    }
}

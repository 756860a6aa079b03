// SPDX-License-Identifier: GPL-2.0-only
//! The system a command works on, opened once.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use iommuctl_policy::{GroupId, Inventory, TypeRequest};
use nix::errno::Errno;

use super::pci_ids::PciNames;
use super::procfs::Proc;
use super::resolve::{ResolveError, Resolver};
use super::sysfs::{Problems, Sysfs};
use super::target::Target;
use crate::audit::trail::Trail;
use crate::bench;
use crate::bench::guard::restore::restore;
use crate::bench::mode::Mode;
use crate::change::advice;
use crate::change::live::Switch;
use crate::change::rebind::journal;
use crate::change::route::Allowed;
use crate::change::session::Turn;
use crate::exit::{Exit, Failure};
use crate::state::change_lock::{Lock, LockError};
use crate::state::lockdown::{self, InForce, LockdownError, Store};
use crate::sys::private_dir::OwnDir;
use crate::sys::trusted::{Root, TrustError};
use crate::terminal::output::Output;

/// How long the kernel may take to make a group strict again that a bench left lazy.
const BENCH: Duration = Duration::from_secs(30);

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
    /// Opens the root of what is configured.
    pub fn open_root(&self) -> Result<Root, TrustError> {
        let root = Root::open(self.root.as_deref())?;
        Ok(match self.run_programs {
            true => root.with_programs(),
            false => root,
        })
    }
}

/// The kernel's file systems, and where names come from.
#[derive(Debug)]
pub struct Context {
    /// The open sysfs.
    pub sysfs: Sysfs,
    /// The open procfs.
    pub proc: Proc,
    /// What `/` is, if it is not `/`.
    pub root: Option<PathBuf>,
    /// What `/run` is, if it is not `/run`.
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

    /// The directory of the block device that `target` names, or is the node of, or a file system on it; `None` if it is something
    /// else.
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

    /// A change of type, with no more allowed than `allowed` says.
    pub fn switch(&self, request: TypeRequest, allowed: Allowed, timeout: Duration) -> Switch<'_> {
        Switch {
            sysfs: &self.sysfs,
            proc: &self.proc,
            request,
            allowed,
            overrides: BTreeSet::new(),
            force: false,
            timeout,
            capabilities: self.proc.capabilities(),
            keep: None,
        }
    }

    /// The lockdown that is in force, if there is one: for everybody, who runs one only for root.
    pub fn lockdown(&self) -> Result<Option<InForce>, LockdownError> {
        let root = self.run_root.as_deref();
        match OwnDir::find(root) {
            Err(error) if error.errno() == Some(Errno::EACCES) => lockdown::from_outside(root),
            found => found?.map_or(Ok(None), |run| Store::new(&run).in_force()),
        }
    }

    /// Whether this process may change a group, as far as that can be known; a failure that says what it lacks if not.
    pub fn may_change(&self) -> Result<(), Failure> {
        let capabilities = self.proc.capabilities();
        if capabilities.is_none_or(|c| c.missing().is_empty()) {
            return Ok(());
        }
        let explained = advice::not_permitted(capabilities);
        Err(Failure::new(Exit::Failed, explained.message).with_advice(explained.advice))
    }

    /// Waits for our turn to change groups, and says so if a rebind was interrupted earlier. Who may not change any does
    /// not wait: nothing is made in `/run` then.
    pub fn turn(&self, patience: Duration, output: &mut Output) -> anyhow::Result<Turn> {
        self.may_change()?;
        let run = OwnDir::make(self.run_root.as_deref())?;
        let lock = self.lock(&run, patience, output)?;
        for group in journal::left_behind(&run)? {
            output.remark(&format!(
                "a rebind of group {group} was interrupted earlier: `iommuctl recover` finishes it"
            ));
        }
        let trail = Trail::begin(self.root.as_deref(), &self.proc)?;
        let turn = Turn { run, lock, trail };
        self.end_benches(&turn, output)?;
        Ok(turn)
    }

    /// A bench that was killed together with its guard may have left a group lazy that is to be strict. Whoever changes something
    /// next makes it strict first: before a lockdown remembers what it found. The other way about, it is only said.
    fn end_benches(&self, turn: &Turn, output: &mut Output) -> anyhow::Result<()> {
        for group in bench::guard::journal::left_behind(&turn.run)? {
            let remark = match bench::guard::journal::read(&turn.run, group) {
                Ok(None) => continue,
                Ok(Some(journal)) if journal.original == Mode::Strict || !journal.switched => {
                    let (run, trail) = (&turn.run, &turn.trail);
                    let restored = restore(self, run, trail, &turn.lock, &journal, BENCH);
                    restored.words(journal.original)
                }
                Ok(Some(_)) => "`iommuctl recover` finishes it".to_owned(),
                Err(error) => error.to_string(),
            };
            output.remark(&format!(
                "a bench of group {group} was interrupted earlier: {remark}"
            ));
        }
        Ok(())
    }

    /// Takes the lock that everything which changes a group needs, and says so if that means to wait.
    pub fn lock(
        &self,
        run: &OwnDir,
        patience: Duration,
        output: &mut Output,
    ) -> anyhow::Result<Lock> {
        let words: Vec<String> = std::env::args().skip(1).collect();
        let command = format!("iommuctl {}", words.join(" "));
        let lock = Lock::take(run, &command, patience, |holder| {
            output.remark(&format!("waiting for another iommuctl: {holder}"));
        });
        lock.map_err(|error| match error {
            LockError::Held(_) => Failure::new(Exit::Failed, error.to_string())
                .with_advice(vec![
                    "repeat the command when it has ended, or wait longer with --lock-timeout SECONDS".to_owned(),
                ])
                .into(),
            LockError::Run(error) => error.into(),
        })
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

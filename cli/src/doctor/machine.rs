// SPDX-License-Identifier: GPL-2.0-only
//! The examined machine: the facts that several findings need, read once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use iommuctl_policy::{differences, Inventory};
use nix::errno::Errno;
use nix::unistd::geteuid;

use super::installed::{self, Installed};
use crate::config::policy_files::{self, LoadError, Loaded};
use crate::kernel::machine::{Context, Roots};
use crate::kernel::procfs::Kernel;
use crate::kernel::sysfs::{Module, Problems};
use crate::state::lockdown::{in_force, InForce, LockdownError};
use crate::sys::error::OsError;
use crate::sys::kernfs::KernFsError;
use crate::sys::subprocess::{Completed, SubprocessError, Subprocesses};
use crate::sys::trusted::{Root, TrustError};

/// The time limit of a program that reads one file or queries one service.
const PROGRAM_TIMEOUT: Duration = Duration::from_secs(10);
/// modinfo(8), wherever the distribution has it.
const MODINFO: [&str; 3] = ["usr/sbin/modinfo", "usr/bin/modinfo", "sbin/modinfo"];

/// The advice for something that requires root.
pub const RUN_AS_ROOT: &str = "run as root";

/// A group whose type is not the one that the policy requires.
#[derive(Clone, Copy, Debug)]
pub struct Differs {
    /// Its number.
    pub group: iommuctl_policy::GroupId,
    /// Whether the required type is laxer than the present one.
    pub laxer: bool,
}

/// The machine, opened, and what several findings need of it.
pub struct Machine<'a> {
    /// The kernel's file systems.
    pub context: &'a Context,
    /// Where `/etc`, `/usr`, `/boot` and so on are.
    pub root: Root,
    /// What the kernel says of itself.
    pub kernel: Kernel,
    /// Its release, if it can be a part of a path.
    pub release: Option<String>,
    /// The groups; an error if they cannot be listed.
    pub inventory: Result<Inventory, KernFsError>,
    /// The module that is loaded.
    pub live: Option<Module>,
    /// The module that is installed for the running kernel.
    pub installed: Result<Option<Installed>, TrustError>,
    /// The policy.
    pub policy: Result<Loaded, Vec<LoadError>>,
    /// The lockdown that is in force.
    pub lockdown: Result<Option<InForce>, LockdownError>,
    subprocesses: Subprocesses,
}

impl<'a> Machine<'a> {
    /// Reads the machine below `roots`; errors on the way are added to `problems`.
    pub fn open(
        context: &'a Context,
        roots: &Roots,
        problems: &mut Problems,
    ) -> Result<Self, TrustError> {
        let root = roots.open_root()?;
        let kernel = context.proc.kernel();
        let release = kernel.release.clone();
        let release = release.filter(|r| !r.contains('/') && !r.starts_with('.'));
        let inventory = context.sysfs.inventory(problems).map(|inventory| {
            inventory.with_devices(|device| context.sysfs.identify(device, problems))
        });
        let installed = match &release {
            Some(release) => installed::find(&root, release),
            None => Ok(None),
        };
        Ok(Self {
            live: context.sysfs.module(problems),
            policy: policy_files::load(&root),
            lockdown: in_force(context.run_root.as_deref()),
            context,
            root,
            kernel,
            release,
            inventory,
            installed,
            subprocesses: Subprocesses::default(),
        })
    }

    /// Whether there is any group.
    pub fn has_groups(&self) -> bool {
        self.inventory.as_ref().is_ok_and(|i| !i.is_empty())
    }

    /// Whether the module is in the kernel. During loading and unloading, only `/sys/module/iommu_live` exists.
    pub fn is_loaded(&self) -> bool {
        self.live.is_some() || self.context.sysfs.kernfs().is_directory(installed::LOADED)
    }

    /// The module that is installed, if one is.
    pub fn module_file(&self) -> Option<&Installed> {
        self.installed.as_ref().ok().and_then(Option::as_ref)
    }

    /// Whether there are files of a policy, valid or not.
    pub fn has_policy(&self) -> bool {
        match &self.policy {
            Ok(loaded) => !loaded.files.is_empty(),
            Err(_) => true,
        }
    }

    /// The groups that are not what the policy wants; none if there is no policy or no group.
    pub fn differing(&self) -> Vec<Differs> {
        let (Ok(loaded), Ok(inventory)) = (&self.policy, &self.inventory) else {
            return Vec::new();
        };
        let differences = differences(&loaded.policy, inventory).into_iter();
        let differing = differences.map(|d| Differs {
            laxer: crate::state::lockdown::is_laxer(d.domain_type.as_ref(), d.wanted),
            group: d.group,
        });
        differing.collect()
    }

    /// `path`, which is relative to the root, to be opened.
    pub fn path(&self, path: &str) -> PathBuf {
        PathBuf::from(self.root.display(path))
    }

    /// Whether there is a file or folder at `path`, below the root; also one that may not be opened.
    pub fn exists(&self, path: &str) -> bool {
        self.path(path).symlink_metadata().is_ok()
    }

    /// The first of `candidates`, which are relative to the root, that is there and may be run.
    pub fn program(&self, candidates: &[&str]) -> Option<PathBuf> {
        candidates.iter().find_map(|path| self.root.program(path))
    }

    /// Runs the first of `candidates` that exists; `None` if none does.
    pub fn run(
        &self,
        candidates: &[&str],
        args: &[&str],
    ) -> Option<Result<Completed, SubprocessError>> {
        let program = self.program(candidates)?;
        Some(self.subprocesses.run(&program, args, PROGRAM_TIMEOUT))
    }

    /// The `field` that modinfo(8) shows for the module in `file`; `None` if there is none, or it cannot be run.
    pub fn modinfo(&self, field: &str, file: &Path) -> Option<String> {
        let file = file.to_str()?;
        let completed = self.run(&MODINFO, &["-F", field, file])?.ok()?;
        let line = completed.text.lines().next().unwrap_or_default().trim();
        (completed.code == 0 && !line.is_empty()).then(|| line.to_owned())
    }

    /// Whether modinfo(8) exists and has never timed out, so that a missing field is really missing.
    pub fn has_modinfo(&self) -> bool {
        let program = self.program(&MODINFO);
        program.is_some_and(|program| !self.subprocesses.was_late(&program))
    }
}

/// The reason why something could not be examined: most likely a lack of permission, and otherwise `error`.
pub fn why(errno: Option<Errno>, error: &dyn std::fmt::Display) -> String {
    match errno {
        Some(Errno::EACCES | Errno::EPERM) if !geteuid().is_root() => RUN_AS_ROOT.to_owned(),
        _ => error.to_string(),
    }
}

/// The errno behind `error`, if a system call failed.
pub fn errno_of(error: &TrustError) -> Option<Errno> {
    match error {
        TrustError::Os(OsError { errno, .. }) => Some(*errno),
        _ => None,
    }
}

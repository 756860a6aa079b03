// SPDX-License-Identifier: GPL-2.0-only
//! The record of a lockdown, so that a release undoes exactly what the lockdown did.
//!
//! One record, `/run/iommuctl/lockdown.json`, lists the groups that were made strict and their types before. It is written and
//! synced *before* the first group is changed: a release can handle a listed group that was not changed after all, but a
//! changed group that is not listed would stay strict.
//!
//! A lockdown lasts while it has a holder: a plain `lockdown` until a `release`, `lockdown --while` until its process ends.
//! Such a process holds a lock on a file of its own, which the kernel releases however the process ends. The record is changed
//! only with the lock of a change ([`crate::change::session`]); to report the lockdown, it is read without the lock.

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use iommuctl_policy::{DomainType, Group, GroupId, TypeRequest};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::sys::error::OsError;
use crate::sys::ofd_lock::{is_locked, try_lock};
use crate::sys::private_dir::{read_published, PrivateDir, PrivateDirError};

/// The name of the record.
const RECORD: &str = "lockdown.json";
/// The prefix of the lock files of holders.
const HOLDER: &str = "lockdown-while-";

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockdownError {
    /// The directory or the file cannot be used, or somebody else can write it.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// The content is not a record.
    #[error("{path} is not the record of a lockdown: {error}")]
    Broken {
        /// The file.
        path: String,
        /// What is wrong.
        error: serde_json::Error,
    },
}

/// A group that was made strict.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Remembered {
    /// Its number.
    pub group: u32,
    /// Its type before.
    #[serde(rename = "type")]
    pub domain_type: String,
    /// The directories of its devices. A group of the same number with other devices is another group.
    pub devices: Vec<String>,
}

impl Remembered {
    /// Remembers `group`; `None` if its type is not known.
    #[must_use]
    pub fn of(group: &Group) -> Option<Self> {
        Some(Self {
            group: group.id.0,
            domain_type: group.domain_type.as_ref()?.as_str().to_owned(),
            devices: group.devices.iter().map(|d| d.path.clone()).collect(),
        })
    }

    /// Its number.
    #[must_use]
    pub fn id(&self) -> GroupId {
        GroupId(self.group)
    }

    /// Its type before.
    #[must_use]
    pub fn domain_type(&self) -> DomainType {
        DomainType::from_kernel(&self.domain_type)
    }

    /// Whether `group` is still this group: it has the same number and the same devices.
    #[must_use]
    pub fn is_still(&self, group: &Group) -> bool {
        let paths = group.devices.iter().map(|d| d.path.as_str());
        self.group == group.id.0 && paths.eq(self.devices.iter().map(String::as_str))
    }
}

/// The content of the record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whether a plain lockdown holds it.
    pub standing: bool,
    /// The groups that were made strict, by number.
    pub groups: Vec<Remembered>,
}

impl Record {
    /// Adds groups. One that is listed already keeps the type from before the first lockdown; another group that had the same
    /// number is dropped.
    pub fn remember(&mut self, groups: impl IntoIterator<Item = Remembered>) {
        let known = std::mem::take(&mut self.groups).into_iter();
        let mut by_number: BTreeMap<u32, Remembered> = known.map(|g| (g.group, g)).collect();
        for group in groups {
            let known = by_number.get(&group.group);
            if known.is_none_or(|known| known.devices != group.devices) {
                by_number.insert(group.group, group);
            }
        }
        self.groups = by_number.into_values().collect();
    }
}

/// A lockdown that is in force.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct InForce {
    /// Whether a plain lockdown holds it, which only a release ends.
    pub standing: bool,
    /// The processes of `lockdown --while` that hold it.
    pub processes: Vec<String>,
    /// How many groups it made strict.
    pub groups: usize,
}

/// The reason why a policy does not make a group laxer.
pub const IN_FORCE: &str =
    "a lockdown is in force, and a policy makes nothing laxer meanwhile: `iommuctl release` ends it";

/// Whether `request` would make a group laxer that now has the type `now`. `auto`, and a group whose type is not known, count
/// as laxer, since the result is not known beforehand.
#[must_use]
pub fn is_laxer(now: Option<&DomainType>, request: TypeRequest) -> bool {
    match request {
        TypeRequest::Dma => now == Some(&DomainType::Blocked),
        TypeRequest::DmaFq => !matches!(now, Some(DomainType::DmaFq | DomainType::Identity)),
        TypeRequest::Identity | TypeRequest::Auto => now != Some(&DomainType::Identity),
    }
}

/// The lockdown in force, if any, for callers who can read only the record. They cannot see the holders of `lockdown --while`,
/// so one that was killed counts until a release.
pub fn from_outside(root: Option<&Path>) -> Result<Option<InForce>, LockdownError> {
    let Some(bytes) = read_published(root, RECORD)? else {
        return Ok(None);
    };
    let record: Record = serde_json::from_slice(&bytes).map_err(|error| {
        let path = format!("/run/iommuctl/{RECORD}");
        LockdownError::Broken { path, error }
    })?;
    let processes = match (record.standing, record.groups.is_empty()) {
        (true, _) => Vec::new(),
        (false, true) => return Ok(None),
        (false, false) => vec!["unknown".to_owned()],
    };
    Ok(Some(InForce {
        standing: record.standing,
        processes,
        groups: record.groups.len(),
    }))
}

/// The lockdown in force in `run_root` (default `/run`), if any. Unprivileged callers see only what the record publishes.
pub fn in_force(run_root: Option<&Path>) -> Result<Option<InForce>, LockdownError> {
    match PrivateDir::find(run_root) {
        Err(error) if error.errno() == Some(Errno::EACCES) => from_outside(run_root),
        found => found?.map_or(Ok(None), |run| Store::new(&run).in_force()),
    }
}

/// Reads and writes the record.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    run: &'a PrivateDir,
}

/// The lock file of a `lockdown --while`, which holds the lockdown at least while this exists.
#[derive(Debug)]
pub struct Holder {
    name: String,
    _locked: File,
}

impl<'a> Store<'a> {
    /// Uses the record in `run`.
    #[must_use]
    pub fn new(run: &'a PrivateDir) -> Self {
        Self { run }
    }

    fn broken(self) -> impl FnOnce(serde_json::Error) -> LockdownError {
        let path = self.run.display(RECORD);
        move |error| LockdownError::Broken { path, error }
    }

    /// Reads the record; it is empty if there is no file.
    pub fn read(self) -> Result<Record, LockdownError> {
        match self.run.read(RECORD)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(self.broken()),
            None => Ok(Record::default()),
        }
    }

    /// Replaces the record atomically.
    pub fn write(self, record: &Record) -> Result<(), LockdownError> {
        let mut text = serde_json::to_vec_pretty(record).map_err(self.broken())?;
        text.push(b'\n');
        Ok(self.run.publish(RECORD, &text)?)
    }

    /// Removes the record, which ends the lockdown.
    pub fn clear(self) -> Result<(), LockdownError> {
        Ok(self.run.remove(RECORD)?)
    }

    /// Opens the file of a holder, and tries to lock it. Returns whether the lock was free.
    fn lock(self, name: &str) -> Result<(File, bool), LockdownError> {
        let file = self.run.open(name)?;
        let free = try_lock(&file).map_err(|errno| self.failed("lock", name, errno))?;
        Ok((file, free))
    }

    /// Makes this process a holder of the lockdown.
    pub fn hold(self) -> Result<Holder, LockdownError> {
        let name = format!("{HOLDER}{}", std::process::id());
        let (file, free) = self.lock(&name)?;
        if !free {
            let path = self.run.display(&name);
            let why = "somebody else has locked it";
            return Err(PrivateDirError::NotOurs { path, why }.into());
        }
        Ok(Holder {
            name,
            _locked: file,
        })
    }

    /// Ends the hold of `holder`.
    pub fn let_go(self, holder: Holder) -> Result<(), LockdownError> {
        Ok(self.run.remove(&holder.name)?)
    }

    /// The lockdown in force, if any. Takes no lock, and needs none.
    pub fn in_force(self) -> Result<Option<InForce>, LockdownError> {
        let record = self.read()?;
        let mut processes = Vec::new();
        for name in self.run.names()? {
            let Some(process) = name.strip_prefix(HOLDER) else {
                continue;
            };
            let file = match self.run.open_to_read(&name) {
                // Its process has ended since the names were read.
                Err(error) if error.errno() == Some(Errno::ENOENT) => continue,
                opened => opened?,
            };
            let locked = is_locked(&file);
            if locked.map_err(|errno| self.failed("look at the lock of", &name, errno))? {
                processes.push(process.to_owned());
            }
        }
        let in_force = InForce {
            standing: record.standing,
            processes,
            groups: record.groups.len(),
        };
        Ok((in_force.standing || !in_force.processes.is_empty()).then_some(in_force))
    }

    fn failed(self, verb: &'static str, name: &str, errno: Errno) -> PrivateDirError {
        let path = self.run.display(name);
        PrivateDirError::Os(OsError { verb, path, errno })
    }

    /// The processes that hold the lockdown. Removes the files of holders that ended without doing so.
    pub fn holders(self) -> Result<Vec<String>, LockdownError> {
        let mut alive = Vec::new();
        for name in self.run.names()? {
            let Some(process) = name.strip_prefix(HOLDER) else {
                continue;
            };
            let (_file, free) = self.lock(&name)?;
            if free {
                self.run.remove(&name)?;
            } else {
                alive.push(process.to_owned());
            }
        }
        Ok(alive)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{group, run_dir};

    #[test]
    fn what_is_written_is_read_again() {
        let (_root, run) = run_dir();
        let store = Store::new(&run);
        assert_eq!(store.read().unwrap(), Record::default());
        let mut record = Record::default();
        record.remember(Remembered::of(&group(
            3,
            "DMA-FQ",
            &[("0000:01:00.0", None)],
        )));
        record.remember(Remembered::of(&group(3, "DMA", &[("0000:01:00.0", None)])));
        store.write(&record).unwrap();
        let again = store.read().unwrap();
        assert_eq!(again, record);
        assert_eq!(again.groups[0].domain_type(), DomainType::DmaFq);
    }

    #[test]
    fn a_group_with_other_devices_is_another_group() {
        let lazy = group(3, "DMA-FQ", &[("0000:01:00.0", None)]);
        let remembered = Remembered::of(&lazy).unwrap();
        assert!(remembered.is_still(&group(3, "DMA", &[("0000:01:00.0", None)])));
        assert!(!remembered.is_still(&group(3, "DMA", &[("0000:02:00.0", None)])));
        assert!(!remembered.is_still(&group(3, "DMA", &[])));
    }

    #[test]
    fn the_first_lockdown_counts_unless_it_was_another_group() {
        let mut record = Record::default();
        let mut add = |domain_type: &str, device: &str| {
            let group = group(3, domain_type, &[(device, None)]);
            record.remember(Remembered::of(&group));
            (record.groups.len(), record.groups[0].domain_type.clone())
        };
        assert_eq!(add("identity", "0000:01:00.0"), (1, "identity".to_owned()));
        assert_eq!(add("DMA-FQ", "0000:01:00.0"), (1, "identity".to_owned()));
        assert_eq!(add("DMA-FQ", "0000:02:00.0"), (1, "DMA-FQ".to_owned()));
    }

    #[test]
    fn who_holds_it_is_known_by_the_lock() {
        let (_root, run) = run_dir();
        let store = Store::new(&run);
        let holder = store.hold().unwrap();
        run.create("lockdown-while-1").unwrap();
        let me = std::process::id().to_string();
        assert_eq!(store.holders().unwrap(), [me]);
        store.let_go(holder).unwrap();
        assert!(store.holders().unwrap().is_empty());
        assert!(run.names().unwrap().is_empty());
    }

    #[test]
    fn in_force_is_what_stands_or_is_held() {
        let (_root, run) = run_dir();
        let store = Store::new(&run);
        let mut record = Record::default();
        record.remember(Remembered::of(&group(
            3,
            "DMA-FQ",
            &[("0000:01:00.0", None)],
        )));
        store.write(&record).unwrap();
        run.create("lockdown-while-1").unwrap();
        assert_eq!(store.in_force().unwrap(), None);
        record.standing = true;
        store.write(&record).unwrap();
        let in_force = store.in_force().unwrap().unwrap();
        assert!(in_force.standing && in_force.processes.is_empty());
        assert_eq!(in_force.groups, 1);
        record.standing = false;
        store.write(&record).unwrap();
        let holder = store.hold().unwrap();
        let me = std::process::id().to_string();
        assert_eq!(store.in_force().unwrap().unwrap().processes, [me]);
        store.let_go(holder).unwrap();
        assert_eq!(store.in_force().unwrap(), None);
    }

    #[test]
    fn everybody_can_see_that_a_lockdown_is_in_force() {
        let (root, run) = run_dir();
        if !nix::unistd::geteuid().is_root() {
            // What is not root's is not believed.
            assert!(from_outside(Some(root.path())).is_err());
            return;
        }
        let store = Store::new(&run);
        let seen = || from_outside(Some(root.path())).unwrap();
        assert_eq!(seen(), None);
        let mut record = Record {
            standing: true,
            ..Record::default()
        };
        store.write(&record).unwrap();
        assert!(seen().unwrap().standing);
        record.standing = false;
        store.write(&record).unwrap();
        assert_eq!(seen(), None);
        record.remember(Remembered::of(&group(
            3,
            "DMA-FQ",
            &[("0000:01:00.0", None)],
        )));
        store.write(&record).unwrap();
        let in_force = seen().unwrap();
        assert_eq!((in_force.groups, in_force.processes.len()), (1, 1));
    }

    #[test]
    fn what_is_laxer() {
        use TypeRequest::{Auto, Dma, DmaFq, Identity};
        let laxer = |now: &str| {
            let now = (!now.is_empty()).then(|| DomainType::from_kernel(now));
            [Dma, DmaFq, Identity, Auto].map(|request| is_laxer(now.as_ref(), request))
        };
        assert_eq!(laxer("blocked"), [true, true, true, true]);
        assert_eq!(laxer("DMA"), [false, true, true, true]);
        assert_eq!(laxer("DMA-FQ"), [false, false, true, true]);
        assert_eq!(laxer("identity"), [false, false, false, false]);
        assert_eq!(laxer(""), [false, true, true, true]);
    }

    #[test]
    fn a_broken_record_is_an_error() {
        let (_root, run) = run_dir();
        let store = Store::new(&run);
        run.publish(RECORD, b"{").unwrap();
        assert!(matches!(store.read(), Err(LockdownError::Broken { .. })));
    }
}

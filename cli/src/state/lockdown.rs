// SPDX-License-Identifier: GPL-2.0-only
//! What a lockdown remembers, so that a release undoes that and nothing else.
//!
//! One record, `/run/iommuctl/lockdown.json`, lists the groups that were made strict and what they were. It is written and
//! synced *before* the first group is touched: a group on the list that was not changed after all is found strict or lazy
//! later, and handled either way, but one that was changed and is not on the list would stay strict for good.
//!
//! A lockdown lasts while somebody holds it: a plain `lockdown` until a `release`, `lockdown --while` until its process
//! ends. Such a process holds a lock on a file of its own, which the kernel lets go of whatever becomes of it. The record
//! is read and changed only by a command whose turn it is ([`crate::change::session`]).

use std::collections::BTreeMap;
use std::fs::File;
use std::path::Path;

use iommuctl_policy::{DomainType, Group, GroupId, TypeRequest};
use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::sys::error::OsError;
use crate::sys::ofd_lock::{is_locked, try_lock};
use crate::sys::private_dir::{read_published, PrivateDir, PrivateDirError};

/// The record.
const RECORD: &str = "lockdown.json";
/// The beginning of the names of lock files.
const HOLDER: &str = "lockdown-while-";

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockdownError {
    /// Its folder or file is not ours alone, or cannot be used.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// It is not a record.
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
    /// What it was.
    #[serde(rename = "type")]
    pub domain_type: String,
    /// The directories of its devices. With other devices it is another group, whatever its number.
    pub devices: Vec<String>,
}

impl Remembered {
    /// What is to be remembered of `group`; `None` if its type is not known.
    #[must_use]
    pub fn of(group: &Group) -> Option<Self> {
        Some(Self {
            group: group.id.0,
            domain_type: group.domain_type.as_ref()?.as_str().to_owned(),
            devices: group.devices.iter().map(|d| d.path.clone()).collect(),
        })
    }

    /// The group.
    #[must_use]
    pub fn id(&self) -> GroupId {
        GroupId(self.group)
    }

    /// What it was.
    #[must_use]
    pub fn domain_type(&self) -> DomainType {
        DomainType::from_kernel(&self.domain_type)
    }

    /// Whether `group` is this group still: the same number, and the same devices.
    #[must_use]
    pub fn is_still(&self, group: &Group) -> bool {
        let paths = group.devices.iter().map(|d| d.path.as_str());
        self.group == group.id.0 && paths.eq(self.devices.iter().map(String::as_str))
    }
}

/// The record.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Whether a plain lockdown holds it.
    pub standing: bool,
    /// What was made strict, by group number.
    pub groups: Vec<Remembered>,
}

impl Record {
    /// Adds groups, but for those that are there already: what one was before the first lockdown counts. Another group that had
    /// the number before is forgotten.
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

/// Why a policy does not make a group laxer.
pub const IN_FORCE: &str =
    "a lockdown is in force, and a policy makes nothing laxer meanwhile: `iommuctl release` ends it";

/// Whether `request` would make a group laxer that has the type `now`. What `auto` comes to is not known beforehand, and
/// neither is what a group is whose type is not known: both count as laxer, to be sure.
#[must_use]
pub fn is_laxer(now: Option<&DomainType>, request: TypeRequest) -> bool {
    match request {
        TypeRequest::Dma => now == Some(&DomainType::Blocked),
        TypeRequest::DmaFq => !matches!(now, Some(DomainType::DmaFq | DomainType::Identity)),
        TypeRequest::Identity | TypeRequest::Auto => now != Some(&DomainType::Identity),
    }
}

/// The lockdown that is in force, if there is one, for those who can read the record and nothing else: who runs
/// `lockdown --while` is not for them to see, so one that was killed counts until somebody releases what it made strict.
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

/// The lockdown that is in force below `/run`, or `run_root`, if there is one. Unprivileged callers see only what the record
/// publishes.
pub fn in_force(run_root: Option<&Path>) -> Result<Option<InForce>, LockdownError> {
    match PrivateDir::find(run_root) {
        Err(error) if error.errno() == Some(Errno::EACCES) => from_outside(run_root),
        found => found?.map_or(Ok(None), |run| Store::new(&run).in_force()),
    }
}

/// Where the record is.
#[derive(Clone, Copy, Debug)]
pub struct Store<'a> {
    run: &'a PrivateDir,
}

/// The lock file of a `lockdown --while`: the lockdown lasts at least as long as this.
#[derive(Debug)]
pub struct Holder {
    name: String,
    _locked: File,
}

impl<'a> Store<'a> {
    /// In `run`.
    #[must_use]
    pub fn new(run: &'a PrivateDir) -> Self {
        Self { run }
    }

    fn broken(self) -> impl FnOnce(serde_json::Error) -> LockdownError {
        let path = self.run.display(RECORD);
        move |error| LockdownError::Broken { path, error }
    }

    /// The record; an empty one if there is none.
    pub fn read(self) -> Result<Record, LockdownError> {
        match self.run.read(RECORD)? {
            Some(bytes) => serde_json::from_slice(&bytes).map_err(self.broken()),
            None => Ok(Record::default()),
        }
    }

    /// Puts `record` in the place of the one before: whole, or not at all.
    pub fn write(self, record: &Record) -> Result<(), LockdownError> {
        let mut text = serde_json::to_vec_pretty(record).map_err(self.broken())?;
        text.push(b'\n');
        Ok(self.run.publish(RECORD, &text)?)
    }

    /// Takes the record away: the lockdown is over.
    pub fn clear(self) -> Result<(), LockdownError> {
        Ok(self.run.remove(RECORD)?)
    }

    /// Opens the file of a holder. Whether its lock was free, and is ours now, is returned with it.
    fn lock(self, name: &str) -> Result<(File, bool), LockdownError> {
        let file = self.run.open(name)?;
        let free = try_lock(&file).map_err(|errno| self.failed("lock", name, errno))?;
        Ok((file, free))
    }

    /// Makes this process hold the lockdown.
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

    /// Ends what `holder` holds.
    pub fn let_go(self, holder: Holder) -> Result<(), LockdownError> {
        Ok(self.run.remove(&holder.name)?)
    }

    /// The lockdown that is in force, if there is one. Only looks, so that it does not have to be our turn.
    pub fn in_force(self) -> Result<Option<InForce>, LockdownError> {
        let record = self.read()?;
        let mut processes = Vec::new();
        for name in self.run.names()? {
            let Some(process) = name.strip_prefix(HOLDER) else {
                continue;
            };
            let locked = is_locked(&self.run.open(&name)?);
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

    /// The processes that hold the lockdown. Files of those that ended without a word are cleared away.
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

// SPDX-License-Identifier: GPL-2.0-only
//! What a lockdown remembers, so that a release undoes that and nothing else.
//!
//! One record, `/run/iommuctl/lockdown.json`, lists the groups that were made strict and what they were. It is written and
//! synced *before* the first group is touched: a group on the list that was not changed after all is found strict or lazy
//! later, and handled either way, but one that was changed and is not on the list would stay strict for good.
//!
//! A lockdown lasts while somebody holds it: a plain `lockdown` until a `release`, `lockdown --while` until its process
//! ends. Such a process holds a lock on a file of its own, which the kernel lets go of whatever becomes of it. The folder
//! itself is locked while the record is read and changed and groups are switched.

use std::fs::File;
use std::os::fd::OwnedFd;

use iommuctl_policy::{DomainType, Group, GroupId};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg, OFlag};
use serde::{Deserialize, Serialize};

use crate::trusted::{Content, Folder, Root, TrustError};

/// Where it is, below the root.
const FOLDER: &str = "run/iommuctl";
/// The record.
const RECORD: &str = "lockdown.json";
/// The beginning of the names of lock files.
const HOLDER: &str = "lockdown-while-";

/// The record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum LockdownError {
    /// Its folder or file is not to be trusted, or cannot be read.
    #[error(transparent)]
    Trust(#[from] TrustError),
    /// A system call failed.
    #[error("Failed to {verb} {path}: {}", errno.desc())]
    Os {
        /// What was tried.
        verb: &'static str,
        /// On what.
        path: String,
        /// Why it failed.
        errno: Errno,
    },
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
    /// Adds a group, unless it is there already: what it was before the first lockdown counts. Another group that had the
    /// number before is forgotten.
    pub fn remember(&mut self, group: Remembered) {
        self.groups
            .retain(|known| known.group != group.group || known.devices == group.devices);
        if self.groups.iter().all(|known| known.group != group.group) {
            self.groups.push(group);
            self.groups.sort_by_key(|g| g.group);
        }
    }
}

/// The folder of the record, which nobody else works on meanwhile.
#[derive(Debug)]
pub struct Store {
    folder: Folder,
    _lock: Flock<OwnedFd>,
}

/// The lock file of a `lockdown --while`: the lockdown lasts at least as long as this.
#[derive(Debug)]
pub struct Holder {
    name: String,
    _lock: Flock<File>,
}

impl Store {
    /// Opens the folder, makes it if there is none, and waits until nobody else works on it.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn open(root: &Root) -> Result<Self, LockdownError> {
        let folder = root.make_folder(FOLDER)?;
        let failed = |verb, errno| LockdownError::Os {
            verb,
            path: folder.display(""),
            errno,
        };
        let handle = folder
            .handle()
            .try_clone()
            .map_err(|e| failed("open", Errno::from_raw(e.raw_os_error().unwrap_or(0))))?;
        let lock =
            Flock::lock(handle, FlockArg::LockExclusive).map_err(|(_, e)| failed("lock", e))?;
        Ok(Self {
            folder,
            _lock: lock,
        })
    }

    fn failed(&self, verb: &'static str, name: &str) -> impl FnOnce(Errno) -> LockdownError {
        let path = self.folder.display(name);
        move |errno| LockdownError::Os { verb, path, errno }
    }

    /// The record; an empty one if there is none.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn read(&self) -> Result<Record, LockdownError> {
        let text = match self.folder.read(RECORD)? {
            Content::Text(text) => text,
            Content::Masked | Content::Absent => return Ok(Record::default()),
        };
        serde_json::from_str(&text).map_err(|error| LockdownError::Broken {
            path: self.folder.display(RECORD),
            error,
        })
    }

    /// Puts `record` in the place of the one before: whole, or not at all.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn write(&self, record: &Record) -> Result<(), LockdownError> {
        let mut text =
            serde_json::to_vec_pretty(record).map_err(|error| LockdownError::Broken {
                path: self.folder.display(RECORD),
                error,
            })?;
        text.push(b'\n');
        Ok(self.folder.replace(RECORD, &text, 0o600)?)
    }

    /// Takes the record away: the lockdown is over.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn clear(&self) -> Result<(), LockdownError> {
        Ok(self.folder.remove(RECORD)?)
    }

    /// Makes this process hold the lockdown.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn hold(&self) -> Result<Holder, LockdownError> {
        let name = format!("{HOLDER}{}", std::process::id());
        let file = self
            .folder
            .create(&name, OFlag::O_RDWR | OFlag::O_CREAT, 0o600)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        let lock = lock.map_err(|(_, errno)| self.failed("lock", &name)(errno))?;
        Ok(Holder { name, _lock: lock })
    }

    /// Ends what `holder` holds.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn let_go(&self, holder: Holder) -> Result<(), LockdownError> {
        let Holder { name, _lock } = holder;
        Ok(self.folder.remove(&name)?)
    }

    /// The processes that hold the lockdown. Files of those that ended without a word are cleared away.
    ///
    /// # Errors
    ///
    /// [`LockdownError`].
    pub fn holders(&self) -> Result<Vec<String>, LockdownError> {
        let mut alive = Vec::new();
        for name in self.folder.names()? {
            let Some(process) = name.strip_prefix(HOLDER) else {
                continue;
            };
            let file = self.folder.create(&name, OFlag::O_RDWR, 0o600)?;
            match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                Ok(_) => self.folder.remove(&name)?,
                Err((_, Errno::EWOULDBLOCK)) => alive.push(process.to_owned()),
                Err((_, errno)) => return Err(self.failed("lock", &name)(errno)),
            }
        }
        Ok(alive)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::PermissionsExt;

    use super::*;
    use crate::testing::group;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("run")).unwrap();
        fs::set_permissions(dir.path().join("run"), fs::Permissions::from_mode(0o755)).unwrap();
        let root = Root::open(Some(dir.path())).unwrap();
        (dir, root)
    }

    #[test]
    fn what_is_written_is_read_again() {
        let (dir, root) = root();
        let store = Store::open(&root).unwrap();
        assert_eq!(store.read().unwrap(), Record::default());
        let mut record = Record::default();
        record.remember(Remembered::of(&group(3, "DMA-FQ", &[("0000:01:00.0", None)])).unwrap());
        record.remember(Remembered::of(&group(3, "DMA", &[("0000:01:00.0", None)])).unwrap());
        store.write(&record).unwrap();
        let again = store.read().unwrap();
        assert_eq!(again, record);
        assert_eq!(again.groups[0].domain_type(), DomainType::DmaFq);
        let mode = |path: &str| fs::metadata(dir.path().join(path)).unwrap().permissions();
        assert_eq!(mode("run/iommuctl").mode() & 0o777, 0o700);
        assert_eq!(mode("run/iommuctl/lockdown.json").mode() & 0o777, 0o600);
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
            record.remember(Remembered::of(&group).unwrap());
            (record.groups.len(), record.groups[0].domain_type.clone())
        };
        assert_eq!(add("identity", "0000:01:00.0"), (1, "identity".to_owned()));
        assert_eq!(add("DMA-FQ", "0000:01:00.0"), (1, "identity".to_owned()));
        assert_eq!(add("DMA-FQ", "0000:02:00.0"), (1, "DMA-FQ".to_owned()));
    }

    #[test]
    fn who_holds_it_is_known_by_the_lock() {
        let (dir, root) = root();
        let store = Store::open(&root).unwrap();
        let holder = store.hold().unwrap();
        fs::write(dir.path().join("run/iommuctl/lockdown-while-1"), "").unwrap();
        let me = std::process::id().to_string();
        assert_eq!(store.holders().unwrap(), [me]);
        store.let_go(holder).unwrap();
        assert!(store.holders().unwrap().is_empty());
        assert_eq!(
            fs::read_dir(dir.path().join("run/iommuctl"))
                .unwrap()
                .count(),
            0
        );
    }

    #[test]
    fn a_broken_record_is_an_error() {
        let (dir, root) = root();
        let store = Store::open(&root).unwrap();
        fs::write(dir.path().join("run/iommuctl/lockdown.json"), "{").unwrap();
        assert!(matches!(store.read(), Err(LockdownError::Broken { .. })));
    }
}

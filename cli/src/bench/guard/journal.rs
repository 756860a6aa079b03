// SPDX-License-Identifier: GPL-2.0-only
//! The journal of a bench: `/run/iommuctl/bench-N`, one file for the group with number N.
//!
//! It has the original type of the group, and whether a bench has changed it. It is written and synced before the type is
//! changed, and updated after the type is restored, so a remaining journal shows whether there is something to restore.

use iommuctl_policy::{Group, GroupId};
use serde::{Deserialize, Serialize};

use crate::bench::mode::Mode;
use crate::state::unfinished::BENCH_PREFIX;
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// The version of the format.
const VERSION: u32 = 1;

/// The journal cannot be read, or is damaged.
#[derive(Debug, thiserror::Error)]
pub enum BenchJournalError {
    /// The directory or the file cannot be used.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// It is damaged: this program never writes such content.
    #[error("{path} is damaged ({why}); it was left alone")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// The journal of a bench.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct BenchJournal {
    version: u32,
    group: u32,
    /// The original type of the group, which is to be restored.
    pub original: Mode,
    /// Whether a bench has changed the type.
    pub switched: bool,
    /// The directories of its devices. A group of the same number with none of them is another group.
    pub devices: Vec<String>,
    /// The process that measures.
    pub bench: u32,
    /// The process that restores the type when the measuring one is gone.
    pub guard: u32,
}

impl BenchJournal {
    /// Starts the journal of `group`, which has the type `original` and is unchanged. Called by the guard of the process
    /// `bench`.
    #[must_use]
    pub fn new(group: &Group, original: Mode, bench: u32) -> Self {
        Self {
            version: VERSION,
            group: group.id.0,
            original,
            switched: false,
            devices: group.devices.iter().map(|d| d.path.clone()).collect(),
            bench,
            guard: std::process::id(),
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        GroupId(self.group)
    }

    /// Whether this is the journal of `group`. A device that has joined the group meanwhile has its type, too.
    #[must_use]
    pub fn is_about(&self, group: &Group) -> bool {
        let is_ours = |path: &String| self.devices.contains(path);
        self.group == group.id.0 && group.devices.iter().any(|d| is_ours(&d.path))
    }

    /// Writes it, atomically and synced.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`]; the previous file is then unchanged.
    pub fn write(&self, run: &PrivateDir) -> Result<(), PrivateDirError> {
        let name = name(self.group());
        let bytes = serde_json::to_vec(self).map_err(|_| PrivateDirError::NotOurs {
            path: run.display(&name),
            why: "what is to be written cannot be put into words",
        })?;
        run.replace(&name, &bytes)
    }

    /// Removes it, since nothing is left to restore.
    pub fn remove(&self, run: &PrivateDir) -> Result<(), PrivateDirError> {
        run.remove(&name(self.group()))
    }
}

fn name(group: GroupId) -> String {
    format!("{BENCH_PREFIX}{group}")
}

/// Reads the journal of `group`; `None` if there is none.
///
/// # Errors
///
/// [`BenchJournalError`], if it exists and cannot be read, or is damaged.
pub fn read(run: &PrivateDir, group: GroupId) -> Result<Option<BenchJournal>, BenchJournalError> {
    let name = name(group);
    let Some(bytes) = run.read(&name)? else {
        return Ok(None);
    };
    let damaged = |why: String| BenchJournalError::Damaged {
        path: run.display(&name),
        why,
    };
    let journal: BenchJournal =
        serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
    if journal.version != VERSION {
        return Err(damaged(format!("version {}", journal.version)));
    }
    if journal.group() != group {
        return Err(damaged("it is about another group".to_owned()));
    }
    Ok(Some(journal))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::unfinished::benches;
    use crate::testing::{group, run_dir};

    #[test]
    fn what_was_written_is_read_again() {
        let (_root, run) = run_dir();
        let lazy = group(3, "DMA-FQ", &[("0000:01:00.0", Some("nvme"))]);
        let mut journal = BenchJournal::new(&lazy, Mode::Lazy, 7);
        journal.write(&run).unwrap();
        journal.switched = true;
        journal.write(&run).unwrap();
        assert_eq!(benches(&run).unwrap(), [GroupId(3)]);
        assert_eq!(read(&run, GroupId(3)).unwrap().as_ref(), Some(&journal));
        assert_eq!(read(&run, GroupId(4)).unwrap(), None);
        journal.remove(&run).unwrap();
        assert!(benches(&run).unwrap().is_empty());
    }

    #[test]
    fn a_group_is_known_by_its_devices() {
        let pair = [("0000:01:00.0", None), ("0000:01:00.1", None)];
        let journal = BenchJournal::new(&group(3, "DMA", &pair[..1]), Mode::Strict, 7);
        assert!(journal.is_about(&group(3, "DMA", &pair)));
        assert!(!journal.is_about(&group(3, "DMA", &pair[1..])));
        assert!(!journal.is_about(&group(4, "DMA", &pair)));
    }

    #[test]
    fn what_this_program_never_writes_is_left_alone() {
        let (root, run) = run_dir();
        let journal =
            BenchJournal::new(&group(3, "DMA", &[("0000:01:00.0", None)]), Mode::Strict, 7);
        let good = serde_json::to_string(&journal).unwrap();
        for (from, to) in [
            ("\"DMA\"", "\"identity\""),
            ("\"version\":1", "\"version\":2"),
            ("\"group\":3", "\"group\":4"),
            ("{", ""),
        ] {
            let path = root.path().join("iommuctl/bench-3");
            std::fs::write(path, good.replacen(from, to, 1)).unwrap();
            let error = read(&run, GroupId(3)).unwrap_err().to_string();
            assert!(error.contains("is damaged"), "{error}");
        }
    }
}

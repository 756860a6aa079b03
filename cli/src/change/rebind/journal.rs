// SPDX-License-Identifier: GPL-2.0-only
//! The journal of a rebind: `/run/iommuctl/rebind-N`, one file for the group with number N.
//!
//! The first line is the whole plan, and each line after it is a step, written and synced before the step is taken. The file is
//! removed when every device has its driver again, so a remaining file is work for `iommuctl recover`. Each line is one JSON
//! object. A last line without its newline was being written when the process was killed, and its step was not taken; if that
//! is the first line, nothing was done.
//!
//! `recover` needs only the plan, and compares it with sysfs. The steps are for people.

use std::fs::File;
use std::io::Write as _;

use iommuctl_policy::GroupId;
use serde::Serialize;

use super::journal_format::{parse, Begin, Parsed, Record, Wrong, VERSION};
use super::kill_point::KillPoint;
use super::plan::{Plan, Step};
use crate::state::unfinished::REBIND_PREFIX;
use crate::sys::error::{errno, OsError};
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// The journal cannot be read or written, or is damaged.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The directory or the file cannot be used.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
    /// It is of another version of this program.
    #[error("{path} is of version {version}, and this program knows version {VERSION}; it was left alone")]
    Version {
        /// The file.
        path: String,
        /// Its version.
        version: u64,
    },
    /// It is damaged: this program never writes such content.
    #[error("{path} is damaged ({why}); it was left alone")]
    Damaged {
        /// The file.
        path: String,
        /// What is wrong with it.
        why: String,
    },
}

/// A journal that is being written.
#[derive(Debug)]
pub struct Journal<'a> {
    run: &'a PrivateDir,
    name: String,
    file: File,
    kill_point: &'a mut KillPoint,
}

impl<'a> Journal<'a> {
    /// Starts the journal of `plan`; no step may be taken before this returns.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it cannot be created; an existing journal results in `EEXIST`.
    pub fn begin(
        run: &'a PrivateDir,
        plan: &Plan,
        kill_point: &'a mut KillPoint,
    ) -> Result<Self, PrivateDirError> {
        let name = name(GroupId(plan.group));
        kill_point.point();
        let file = run.create(&name)?;
        let mut journal = Self {
            run,
            name,
            file,
            kill_point,
        };
        let version = VERSION;
        let plan = plan.clone();
        match journal.line(&Begin { version, plan }) {
            Ok(()) => Ok(journal),
            Err(error) => {
                // Remove the journal, since nothing was done. If that fails, the file is taken for a torn first line.
                let _ = run.remove(&journal.name);
                Err(error)
            }
        }
    }

    /// Continues an existing journal.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it cannot be opened, or a torn line cannot be removed.
    pub fn resume(
        run: &'a PrivateDir,
        found: &Found,
        kill_point: &'a mut KillPoint,
    ) -> Result<Self, PrivateDirError> {
        let mut file = run.open(&found.name)?;
        let end = found.length;
        let cut = file
            .set_len(end)
            .and_then(|()| std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(end)));
        let name = found.name.clone();
        match cut {
            Ok(_) => Ok(Self {
                run,
                name,
                file,
                kill_point,
            }),
            Err(error) => Err(failed(run, &name, &error)),
        }
    }

    /// Records `step`, which may be taken after this has returned.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if the record may not be on the disk.
    pub fn record(&mut self, step: Step) -> Result<(), PrivateDirError> {
        self.kill_point.point();
        self.line(&Record { step })
    }

    /// Counts the kill point after a step was taken. Writes nothing.
    pub fn taken(&mut self) {
        self.kill_point.point();
    }

    fn line(&mut self, record: &impl Serialize) -> Result<(), PrivateDirError> {
        let written = self.put(record);
        written.map_err(|error| failed(self.run, &self.name, &error))
    }

    fn put(&mut self, record: &impl Serialize) -> std::io::Result<()> {
        let mut line = serde_json::to_vec(record)?;
        line.push(b'\n');
        let (head, tail) = line.split_at(line.len() / 2);
        self.file.write_all(head)?;
        self.kill_point.point();
        self.file.write_all(tail)?;
        self.file.sync_all()?;
        self.kill_point.point();
        Ok(())
    }

    /// Removes the journal: there is nothing left to recover.
    pub fn end(self) -> Result<(), PrivateDirError> {
        self.kill_point.point();
        self.run.remove(&self.name)?;
        self.kill_point.point();
        Ok(())
    }
}

fn failed(run: &PrivateDir, name: &str, error: &std::io::Error) -> PrivateDirError {
    let errno = errno(error);
    let path = run.display(name);
    PrivateDirError::Os(OsError {
        verb: "write",
        path,
        errno,
    })
}

fn name(group: GroupId) -> String {
    format!("{REBIND_PREFIX}{group}")
}

/// The journal of an interrupted rebind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The group it is about, from its name.
    pub group: GroupId,
    name: String,
    /// The plan; `None` if its line is torn, so that nothing was done.
    pub plan: Option<Plan>,
    /// The last step that was recorded.
    pub last: Option<Step>,
    /// The length of the complete lines, in bytes.
    length: u64,
}

impl Found {
    /// Removes it: there is nothing left to recover.
    pub fn remove(&self, run: &PrivateDir) -> Result<(), PrivateDirError> {
        run.remove(&self.name)
    }
}

/// Reads the journal of `group`; `None` if there is none.
///
/// # Errors
///
/// [`JournalError`], if it exists and cannot be read, or is damaged.
pub fn read(run: &PrivateDir, group: GroupId) -> Result<Option<Found>, JournalError> {
    let name = name(group);
    let Some(bytes) = run.read(&name)? else {
        return Ok(None);
    };
    let parsed = parse(&bytes).map_err(|error| {
        let path = run.display(&name);
        match error {
            Wrong::Version(version) => JournalError::Version { path, version },
            Wrong::Text(why) => JournalError::Damaged { path, why },
        }
    })?;
    let Parsed { plan, last, length } = parsed;
    if plan.as_ref().is_some_and(|p| p.group != group.0) {
        let path = run.display(&name);
        let why = "it is about another group".to_owned();
        return Err(JournalError::Damaged { path, why });
    }
    Ok(Some(Found {
        group,
        name,
        plan,
        last,
        length,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::change::rebind::fake::plan;
    use crate::state::unfinished::rebinds;
    use crate::testing::run_dir;

    #[test]
    fn what_was_recorded_is_read_again() {
        let (_root, run) = run_dir();
        let plan = plan(&["0000:02:00.0"], "DMA", "identity");
        let mut kill_point = KillPoint::default();
        let mut journal = Journal::begin(&run, &plan, &mut kill_point).unwrap();
        journal.record(Step::Unbind(0)).unwrap();
        assert_eq!(rebinds(&run).unwrap(), [GroupId(7)]);
        let found = read(&run, GroupId(7)).unwrap().unwrap();
        assert_eq!(found.plan.as_ref(), Some(&plan));
        assert_eq!(found.last, Some(Step::Unbind(0)));
        // One rebind of a group at a time.
        let mut kill_point = KillPoint::default();
        assert!(Journal::begin(&run, &plan, &mut kill_point).is_err());
        journal.end().unwrap();
        assert!(read(&run, GroupId(7)).unwrap().is_none());
    }

    #[test]
    fn journal_cut_anywhere_is_still_of_use() {
        let (root, run) = run_dir();
        let plan = plan(&["0000:02:00.0"], "DMA", "identity");
        let mut kill_point = KillPoint::default();
        let mut journal = Journal::begin(&run, &plan, &mut kill_point).unwrap();
        journal.record(Step::Unbind(0)).unwrap();
        let path = root.path().join("iommuctl/rebind-7");
        let whole = std::fs::read(&path).unwrap();
        let first = whole.iter().position(|b| *b == b'\n').unwrap() + 1;
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).unwrap();
            let found = read(&run, GroupId(7)).unwrap().unwrap();
            assert_eq!(found.plan.is_some(), length >= first, "{length}");
            assert_eq!(found.last, None, "{length}");
            // The torn line is taken off before another is added.
            if found.plan.is_some() {
                let mut kill_point = KillPoint::default();
                let mut again = Journal::resume(&run, &found, &mut kill_point).unwrap();
                again.record(Step::Bind(0)).unwrap();
                let found = read(&run, GroupId(7)).unwrap().unwrap();
                assert_eq!(found.last, Some(Step::Bind(0)), "{length}");
            }
        }
    }

    #[test]
    fn what_this_program_never_writes_is_left_alone() {
        let (root, run) = run_dir();
        let path = root.path().join("iommuctl/rebind-7");
        let good = serde_json::to_string(&Begin {
            version: VERSION,
            plan: plan(&["0000:02:00.0"], "DMA", "identity"),
        });
        let good = good.unwrap();
        let cases = [
            ("{}\n".to_owned(), "damaged"),
            (
                good.replace("\"version\":1", "\"version\":2") + "\n",
                "version 2",
            ),
            (
                good.replace("\"pci\"", "\"../x\"") + "\n",
                "a bus is not plain",
            ),
            (
                good.replace("\"nvme\"", "\"..\"") + "\n",
                "a driver is not plain",
            ),
            (
                good.replace("\"group\":7", "\"group\":8") + "\n",
                "another group",
            ),
        ];
        for (text, words) in cases {
            std::fs::write(&path, &text).unwrap();
            let error = read(&run, GroupId(7)).unwrap_err().to_string();
            assert!(error.contains(words), "{error}");
        }
        // A bad line after a good plan is no reason to leave devices unbound.
        std::fs::write(&path, format!("{good}\nnonsense\n")).unwrap();
        let found = read(&run, GroupId(7)).unwrap().unwrap();
        assert!(found.plan.is_some() && found.last.is_none());
    }
}

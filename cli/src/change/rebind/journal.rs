// SPDX-License-Identifier: GPL-2.0-only
//! The journal of a rebind: `/run/iommuctl/rebind-N`, one file for the group with number N.
//!
//! The first line is the whole plan, each line after it a step, written and synced before the step is taken. The file
//! goes when every device has its driver again, so a file that is there is work for `iommuctl recover`. Each line is one
//! JSON object. A last line without its newline was being written when the process was killed, and its step was not
//! taken; a first line like that means that nothing was done at all.
//!
//! `recover` needs no more than the plan: what is missing is seen in sysfs. The steps are for people.

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

/// The journal cannot be read, written or believed.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// The folder or the file.
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
    /// It holds something that this program never writes.
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
    /// Begins the journal of `plan`; nothing of it may be done before this returns.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it cannot be made; that one is there already shows as `EEXIST`.
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
                // Nothing was done, so there must be nothing to recover. What stays is taken for a torn first line.
                let _ = run.remove(&journal.name);
                Err(error)
            }
        }
    }

    /// Goes on with a journal that was found.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it cannot be opened, or a line that was torn cannot be taken off.
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

    /// Records `step`, which may be taken when this has returned.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if the record may be lost.
    pub fn record(&mut self, step: Step) -> Result<(), PrivateDirError> {
        self.kill_point.point();
        self.line(&Record { step })
    }

    /// A step was taken.
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

/// A journal that somebody left.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The group it is about, from its name.
    pub group: GroupId,
    name: String,
    /// What was planned; `None` if not even that was recorded whole, and so nothing was done.
    pub plan: Option<Plan>,
    /// The last step that was recorded.
    pub last: Option<Step>,
    /// Bytes that are whole.
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
/// [`JournalError`], if there is one that cannot be read or believed.
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

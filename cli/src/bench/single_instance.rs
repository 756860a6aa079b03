// SPDX-License-Identifier: GPL-2.0-only
//! One bench at a time: two would spoil each other's figures, and the second would end the first, as whoever waits for the turn does.
//!
//! A bench has `/run/iommuctl/lock-bench` locked, from before it waits for its turn until it ends; but for one by somebody who may
//! not make anything there, who changes no type either. No other process has a copy of that handle, and the kernel lets go of it
//! when the last thread of the bench is gone: so one that was killed does not run, whatever its guard still does and whatever
//! journal is left, and one that merely got its number is not taken for it.

use std::fs::File;
use std::time::Duration;

use nix::errno::Errno;

use super::scope::disk_of::Subject;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::state::change_lock::Lock;
use crate::sys::error::OsError;
use crate::sys::ofd_lock::{locked_by, try_lock_signed};
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

const NAME: &str = "lock-bench";
/// How often it is tried, and how long apart: one that was just killed has threads that end a moment later.
const MAX_ATTEMPTS: usize = 10;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// That no other bench measures while this is there.
#[derive(Debug)]
pub struct SingleInstance {
    _file: File,
}

/// Makes sure that no other bench runs now. Nothing is made.
///
/// # Errors
///
/// A [`Failure`], if one does; [`PrivateDirError`], if that cannot be told. Who may not look there is told nothing.
pub fn check(context: &Context, subject: &Subject) -> anyhow::Result<()> {
    let found = PrivateDir::find(context.run_root.as_deref()).and_then(|run| match run {
        Some(run) => run.open_to_read(NAME).map(|file| Some((run, file))),
        None => Ok(None),
    });
    let (run, file) = match found {
        Ok(Some(found)) => found,
        Ok(None) => return Ok(()),
        Err(error) if matches!(error.errno(), Some(Errno::ENOENT | Errno::EACCES)) => {
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let mut other = None;
    for _ in 0..MAX_ATTEMPTS {
        other = locked_by(&file).map_err(|errno| failed(&run, errno))?;
        if other.is_none() {
            return Ok(());
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
    other.map_or(Ok(()), |pid| Err(refusal(subject, &run, pid).into()))
}

/// Makes sure of the same from now on.
///
/// # Errors
///
/// The same, if another bench was first. Nothing was changed then.
pub fn begin(context: &Context, subject: &Subject) -> anyhow::Result<SingleInstance> {
    let run = PrivateDir::make(context.run_root.as_deref())?;
    let file = run.open(NAME)?;
    for _ in 0..MAX_ATTEMPTS {
        if try_lock_signed(&file).map_err(|errno| failed(&run, errno))? {
            return Ok(SingleInstance { _file: file });
        }
        std::thread::sleep(RETRY_INTERVAL);
    }
    match locked_by(&file).map_err(|errno| failed(&run, errno))? {
        Some(pid) => Err(refusal(subject, &run, pid).into()),
        None => {
            let path = run.display(NAME);
            let why = "something that is no bench has locked it, or one after the other did";
            Err(PrivateDirError::NotOurs { path, why }.into())
        }
    }
}

fn failed(run: &PrivateDir, errno: Errno) -> PrivateDirError {
    PrivateDirError::Os(OsError {
        verb: "lock",
        path: run.display(NAME),
        errno,
    })
}

fn refusal(subject: &Subject, run: &PrivateDir, pid: u32) -> Failure {
    let message = format!(
        "{} (group {}) is not measured: another bench is running, {}",
        subject.node,
        subject.group,
        Lock::describe(run, pid)
    );
    let advice = vec![
        "repeat the command when it has ended".to_owned(),
        format!(
            "`kill -INT {pid}` ends it (followed by `kill -CONT {pid}`, if it is suspended): a type that it changed is put \
             back, and its figures are lost"
        ),
    ];
    Failure::new(Exit::Refused, message).with_advice(advice)
}

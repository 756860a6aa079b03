// SPDX-License-Identifier: GPL-2.0-only
//! Allows only one bench at a time: two would distort each other's figures, and the second would end the first by waiting for
//! the lock.
//!
//! A bench has `/run/iommuctl/lock-bench` locked from before it waits for the lock of a change until it ends, except for one by
//! an unprivileged user, who cannot create anything there, and changes no type either. No other process has a copy of that
//! handle, and the kernel releases it with the last thread of the bench. So a bench that was killed does not count as running,
//! whatever its guard still does and whatever journal is left, and neither does a process that has got its number.

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
/// How many attempts are made to take the lock: the threads of a bench that was just killed end a moment later.
const MAX_ATTEMPTS: usize = 10;
const RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// Keeps other benches from running until it is dropped.
#[derive(Debug)]
pub struct SingleInstance {
    _file: File,
}

/// Checks that no other bench is running. Creates no file.
///
/// # Errors
///
/// A [`Failure`], if one is running; [`PrivateDirError`], if that cannot be found out. An unprivileged caller gets no error.
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

/// Keeps other benches from running from now on.
///
/// # Errors
///
/// A [`Failure`], if another bench was first; [`PrivateDirError`], if that cannot be found out. Nothing was changed then.
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

// SPDX-License-Identifier: GPL-2.0-only
//! One bench at a time: two would spoil each other's figures, and the second would end the first, as whoever waits for the turn does.
//!
//! A bench that is to change types has `/run/iommuctl/lock-bench` locked, from before it waits for its turn until it ends. No other
//! process has a copy of that handle, and the kernel lets go of it when the bench dies: so one that was killed does not run,
//! whatever its guard still does and whatever journal is left, and one that merely got its number is not taken for it.

use std::fs::File;

use super::subject::Subject;
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::lock::{locked_by, try_lock_signed, Lock};
use crate::own_dir::{OwnDir, OwnDirError};

const NAME: &str = "lock-bench";
/// How often it is tried, where whoever was in the way is gone a moment later.
const ATTEMPTS: usize = 10;

/// That no other bench changes types while this is there.
#[derive(Debug)]
pub struct Alone {
    _file: File,
}

/// Makes sure that no other bench changes types now. Nothing is made, and nobody is waited for.
///
/// # Errors
///
/// [`Failure`], if one does. Who may not look there may not change a type, either, and so ends none.
pub fn check(context: &Context, subject: &Subject) -> Result<(), Failure> {
    let Ok(Some(run)) = OwnDir::find(context.run_root.as_deref()) else {
        return Ok(());
    };
    let file = run.open_to_read(NAME).ok();
    match file.and_then(|file| locked_by(&file).ok().flatten()) {
        Some(pid) => Err(refusal(subject, &run, pid)),
        None => Ok(()),
    }
}

/// Makes sure of the same from now on.
///
/// # Errors
///
/// A [`Failure`], if another bench was first; [`OwnDirError`], if that cannot be told. Nothing was changed then.
pub fn begin(context: &Context, subject: &Subject) -> anyhow::Result<Alone> {
    // Who may not change a group makes nothing in `/run`.
    context.may_change()?;
    let run = OwnDir::make(context.run_root.as_deref())?;
    let file = run.open(NAME)?;
    let failed = |errno| OwnDirError::Os {
        verb: "lock",
        path: run.display(NAME),
        errno,
    };
    for _ in 0..ATTEMPTS {
        if try_lock_signed(&file).map_err(failed)? {
            return Ok(Alone { _file: file });
        }
        if let Some(pid) = locked_by(&file).map_err(failed)? {
            return Err(refusal(subject, &run, pid).into());
        }
        // It has ended between the two questions.
    }
    let path = run.display(NAME);
    let why = "something that is no bench has locked it";
    Err(OwnDirError::NotOurs { path, why }.into())
}

fn refusal(subject: &Subject, run: &OwnDir, pid: u32) -> Failure {
    let message = format!(
        "{} (group {}) is not measured: another bench is running, {}",
        subject.node,
        subject.group,
        Lock::describe(run, pid)
    );
    let advice = vec![
        "repeat the command when it has ended".to_owned(),
        format!(
            "`kill -INT {pid}` ends it (followed by `kill -CONT {pid}`, if it is suspended): it puts the type back, and its \
             figures are lost"
        ),
    ];
    Failure::new(Exit::Refused, message).with_advice(advice)
}

// SPDX-License-Identifier: GPL-2.0-only
//! The resources of a command that changes groups: the directory in `/run`, the lock in it, and the audit trail. Only one
//! process at a time has a session.

use std::time::Duration;

use super::advice::not_permitted;
use crate::audit::trail::Trail;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::state::change_lock::{Lock, LockError};
use crate::state::unfinished;
use crate::sys::private_dir::PrivateDir;
use crate::terminal::output::Output;

/// Permission to change groups, until this is dropped.
#[derive(Debug)]
pub struct Session {
    /// The directory of journals and records.
    pub run: PrivateDir,
    /// The lock, which this process holds.
    pub lock: Lock,
    /// The audit trail of the changes.
    pub trail: Trail,
}

impl Session {
    /// Waits for the lock, and reports rebinds that were interrupted earlier. Unprivileged callers fail early, and create
    /// nothing in `/run`.
    pub fn begin(
        context: &Context,
        timeout: Duration,
        output: &mut Output,
    ) -> anyhow::Result<Self> {
        may_change(context)?;
        let run = PrivateDir::make(context.run_root.as_deref())?;
        let lock = lock(&run, timeout, output)?;
        for group in unfinished::rebinds(&run)? {
            output.remark(&format!(
                "a rebind of group {group} was interrupted earlier: `iommuctl recover` finishes it"
            ));
        }
        let trail = Trail::begin(context.root.as_deref(), &context.proc)?;
        Ok(Self { run, lock, trail })
    }
}

/// Checks whether this process may change a group, as far as that can be known; fails with what it lacks.
pub fn may_change(context: &Context) -> Result<(), Failure> {
    let capabilities = context.proc.capabilities();
    if capabilities.is_none_or(|c| c.missing().is_empty()) {
        return Ok(());
    }
    let explained = not_permitted(capabilities);
    Err(Failure::new(Exit::Failed, explained.message).with_advice(explained.advice))
}

/// Takes the lock for changing groups, and tells the user if it has to wait for it.
pub fn lock(run: &PrivateDir, timeout: Duration, output: &mut Output) -> anyhow::Result<Lock> {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = format!("iommuctl {}", words.join(" "));
    let lock = Lock::take(run, &command, timeout, |holder| {
        output.remark(&format!("waiting for another iommuctl: {holder}"));
    });
    lock.map_err(|error| match error {
        LockError::Held(_) => Failure::new(Exit::Failed, error.to_string())
            .with_advice(vec![
                "repeat the command when it has ended, or wait longer with --lock-timeout SECONDS"
                    .to_owned(),
            ])
            .into(),
        LockError::Run(error) => error.into(),
    })
}

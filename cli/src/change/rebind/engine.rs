// SPDX-License-Identifier: GPL-2.0-only
//! The order of the steps of a rebind, and the recovery when one of them fails.
//!
//! 1. Unbind every device of the plan.
//! 2. Write the type, and read it back.
//! 3. Bind every device to the driver it had, and wait until its disks and interfaces are there again.
//!
//! After a failure, or if the user stops the command, the old type is written again if the group has another one, and every
//! device is bound again. Binding continues after failures, so that one lost device does not cost the others. Whatever the
//! kernel is still working on is left alone: even reading it would block.

use std::time::Duration;

use nix::errno::Errno;

use super::account::{end_of, Account, End, Interruption, Trouble};
use super::machine::{Bound, Machine, WriteError};
use super::plan::{Plan, Step, Write};

/// Executes `plan`; `timeout` is for each step of each device.
pub fn run<M: Machine>(machine: &mut M, plan: &Plan, timeout: Duration) -> Account {
    let mut rebind = Rebind::new(machine, plan, timeout);
    let changed = rebind.take_apart(true).and_then(|()| rebind.change());
    let result = changed.and_then(|()| rebind.bring_back());
    rebind.finish(result)
}

/// Binds the devices that a killed process left unbound. The type stays what it is, the old or the new one, unless a device
/// cannot be bound with it.
pub fn recover<M: Machine>(machine: &mut M, plan: &Plan, timeout: Duration) -> Account {
    let mut rebind = Rebind::new(machine, plan, timeout);
    let result = rebind.bring_back();
    rebind.finish(result)
}

/// The progress with one device.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) began: Option<Duration>,
    pub(super) back: Option<Duration>,
    /// A write for it has timed out, and the kernel still works on it.
    pub(super) stuck: bool,
    /// Somebody else has chosen another driver for it.
    pub(super) given_away: bool,
}

/// A rebind in progress. This file has the execution of a step, `unbind` the first half, and `bring_back` the second.
pub(super) struct Rebind<'a, M> {
    pub(super) machine: &'a mut M,
    pub(super) plan: &'a Plan,
    pub(super) timeout: Duration,
    pub(super) progress: Vec<Progress>,
    notes: Vec<String>,
    writes: Vec<Write>,
    /// The write of the type has timed out, and the kernel still works on it.
    pub(super) type_is_stuck: bool,
}

impl<'a, M: Machine> Rebind<'a, M> {
    fn new(machine: &'a mut M, plan: &'a Plan, timeout: Duration) -> Self {
        Self {
            machine,
            plan,
            timeout,
            progress: vec![Progress::default(); plan.subjects.len()],
            notes: Vec::new(),
            writes: Vec::new(),
            type_is_stuck: false,
        }
    }

    /// Ends the rebind; after a failure, restores the old state.
    fn finish(mut self, result: Result<(), Trouble>) -> Account {
        let trouble = result.err();
        if trouble.is_some() {
            // Try both, even if the first fails: a bound device with the wrong type is better than an unbound one.
            for more in [self.restore(), self.bring_back()] {
                if let Err(more) = more {
                    self.note(more.message);
                }
            }
        }
        let devices: Vec<Interruption> = (0..self.plan.subjects.len())
            .filter_map(|n| self.interruption(n))
            .collect();
        let is_whole =
            |n: usize, device: &Interruption| match (&device.now, self.plan.subjects.get(n)) {
                (Bound::To(driver), Some(subject)) => {
                    *driver == subject.driver || self.progress.get(n).is_some_and(|p| p.given_away)
                }
                (Bound::Nothing, _) | (_, None) => false,
                (Bound::Gone, _) => true,
            };
        let whole = devices.iter().enumerate().all(|(n, d)| is_whole(n, d));
        let stuck = self.type_is_stuck || self.progress.iter().any(|p| p.stuck);
        let notes = match &trouble {
            Some(first) => self
                .notes
                .into_iter()
                .filter(|n| *n != first.message)
                .collect(),
            None => self.notes,
        };
        Account {
            end: trouble.as_ref().map_or(End::Done, |t| t.end),
            // Do not read the type: that would block on the write that the kernel has not finished.
            domain_type: if self.type_is_stuck {
                None
            } else {
                self.machine.domain_type()
            },
            whole: whole && !stuck,
            trouble,
            notes,
            devices,
            writes: self.writes,
        }
    }

    fn interruption(&mut self, n: usize) -> Option<Interruption> {
        let subject = self.plan.subjects.get(n)?;
        let progress = self.progress.get(n)?;
        let took = progress.began.zip(progress.back);
        Some(Interruption {
            took: took.map(|(began, back)| back.saturating_sub(began)),
            interrupted: progress.began.is_some(),
            now: self.machine.bound(subject),
        })
    }

    pub(super) fn note(&mut self, text: String) {
        if !self.notes.contains(&text) {
            self.notes.push(text);
        }
    }

    /// Records and takes a step that must not be taken without its record.
    pub(super) fn step(&mut self, step: Step) -> Result<(), WriteError> {
        self.machine.record(step).map_err(|why| {
            WriteError::Broken(format!(
                "the step could not be recorded, and was not taken: {why}"
            ))
        })?;
        self.take(step)
    }

    /// Takes a step that restores the old state, even if it cannot be recorded: an unbound device is worse than a journal
    /// without this line, whose plan is sufficient for recovery.
    pub(super) fn step_back(&mut self, step: Step) -> Result<(), WriteError> {
        if let Err(why) = self.machine.record(step) {
            self.note(format!("a step back was not recorded: {why}"));
        }
        self.take(step)
    }

    fn take(&mut self, step: Step) -> Result<(), WriteError> {
        let write = self.plan.write(step);
        let missing = || WriteError::Broken("the plan has no such device".to_owned());
        self.write(write.ok_or_else(missing)?)
    }

    pub(super) fn write(&mut self, write: Write) -> Result<(), WriteError> {
        let result = self.machine.write(&write);
        self.writes.push(write);
        result
    }

    /// The error of a step for a device.
    pub(super) fn trouble(
        &mut self,
        n: usize,
        verb: &str,
        name: &str,
        error: &WriteError,
    ) -> Trouble {
        if let (WriteError::StillWorking, Some(progress)) = (error, self.progress.get_mut(n)) {
            progress.stuck = true;
        }
        let driver = self.plan.subjects.get(n).map(|s| s.driver.as_str());
        let driver = driver.unwrap_or("its driver");
        let why = match error {
            WriteError::Errno(Errno::ENOENT) => format!("{driver} is not there any more"),
            WriteError::Errno(Errno::ENODEV) if verb == "bind" => {
                format!("{driver} does not take it (ENODEV)")
            }
            other => self.why(other),
        };
        Trouble::new(end_of(error), format!("Failed to {verb} {name}: {why}"))
    }

    /// The error of a step for the type.
    pub(super) fn type_trouble(&mut self, text: &str, error: &WriteError) -> Trouble {
        self.type_is_stuck = *error == WriteError::StillWorking;
        let message = format!("Failed to write {text}: {}", self.why(error));
        let errno = match error {
            WriteError::Errno(errno) => Some(*errno),
            WriteError::StillWorking | WriteError::Broken(_) => None,
        };
        Trouble {
            errno,
            ..Trouble::new(end_of(error), message)
        }
    }

    fn why(&self, error: &WriteError) -> String {
        match error {
            WriteError::Errno(errno) => format!("{} ({errno:?})", errno.desc()),
            WriteError::StillWorking => format!(
                "the kernel is still working on it after {} s, and it cannot be cancelled",
                self.timeout.as_secs_f64()
            ),
            WriteError::Broken(why) => why.clone(),
        }
    }
}

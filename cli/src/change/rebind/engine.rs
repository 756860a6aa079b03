// SPDX-License-Identifier: GPL-2.0-only
//! The order of a rebind, and what is done when a step of it fails.
//!
//! 1. Take apart: unbind every device of the plan.
//! 2. Change: write the type, and read it back.
//! 3. Bring back: bind every device to the driver it had, and wait until its disks and interfaces are there again.
//!
//! Whatever fails, and whenever the user wants to stop, the rest is this: the old type is written again if it is not the
//! type any more, and every device is brought back. Bringing back goes on past failures, so one lost device does not
//! cost the others. What the kernel is still working on is left alone: to look at it would mean to wait for it.

use std::time::Duration;

use nix::errno::Errno;

use super::account::{end_of, Account, End, Interruption, Trouble};
use super::machine::{Bound, Machine, WriteError};
use super::plan::{Plan, Step, Write};

/// Does what `plan` says; `timeout` is for each step of each device.
pub fn run<M: Machine>(machine: &mut M, plan: &Plan, timeout: Duration) -> Account {
    let mut rebind = Rebind::new(machine, plan, timeout);
    let changed = rebind.take_apart(true).and_then(|()| rebind.change());
    let result = changed.and_then(|()| rebind.bring_back());
    rebind.finish(result)
}

/// Brings back what a killed process left. The type stays what it is, the old or the new one, unless a device cannot be
/// bound with it.
pub fn recover<M: Machine>(machine: &mut M, plan: &Plan, timeout: Duration) -> Account {
    let mut rebind = Rebind::new(machine, plan, timeout);
    let result = rebind.bring_back();
    rebind.finish(result)
}

/// What is known about one device on the way.
#[derive(Clone, Debug, Default)]
pub(super) struct Progress {
    pub(super) began: Option<Duration>,
    pub(super) back: Option<Duration>,
    /// The kernel works on it, and does not stop.
    pub(super) stuck: bool,
    /// Somebody else has decided which driver it gets.
    pub(super) given_away: bool,
}

/// A rebind under way. What it does is in three files: here is how a step is taken, in `apart` the way there, in `back`
/// the way back.
pub(super) struct Rebind<'a, M> {
    pub(super) machine: &'a mut M,
    pub(super) plan: &'a Plan,
    pub(super) timeout: Duration,
    pub(super) progress: Vec<Progress>,
    notes: Vec<String>,
    writes: Vec<Write>,
    /// The kernel works on the type, and does not stop.
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

    /// The end of every rebind: if anything went wrong, back to how it was.
    fn finish(mut self, result: Result<(), Trouble>) -> Account {
        let trouble = result.err();
        if trouble.is_some() {
            // Both are tried, whatever comes of the first: a device with the wrong type is better than none.
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
            // Reading it would wait for what the kernel does not finish.
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

    /// Records and takes a step that is not taken without its record.
    pub(super) fn step(&mut self, step: Step) -> Result<(), WriteError> {
        self.machine.record(step).map_err(|why| {
            WriteError::Broken(format!(
                "the step could not be recorded, and was not taken: {why}"
            ))
        })?;
        self.take(step)
    }

    /// Takes a step back. A record of it is nice to have, but a device without its driver is worse than a journal
    /// without this line: its first record says all that is needed.
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

    /// What went wrong with a device.
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

    /// What went wrong with the type.
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

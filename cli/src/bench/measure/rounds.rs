// SPDX-License-Identifier: GPL-2.0-only
//! The rounds: change the type, read, look whether the type is still ours, and again.

use std::time::Duration;

use iommuctl_policy::{DomainType, GroupId};
use nix::sys::signal::Signal;

use super::figures::{Change, Slot};
use super::load::{Counted, Cut};
use super::schedule::{Load, Schedule};
use crate::bench::disk::{Disk, DiskError};
use crate::bench::guard::parent::{GuardClient, GuardError};
use crate::bench::guard::protocol::GuardReply;
use crate::bench::mode::Mode;
use crate::bench::scope::rules::{Reason, Why};
use crate::kernel::machine::Context;
use crate::state::change_lock::Lock;
use crate::sys::private_dir::PrivateDir;
use crate::sys::signals::Signals;

/// The reason why a measurement was stopped.
#[derive(Debug, thiserror::Error)]
pub enum Stop {
    /// The user wants it to stop.
    #[error("stopped by {0}")]
    Signal(Signal),
    /// Another command waits for the lock, and may be more important.
    #[error("another iommuctl waits to change something, and comes first")]
    Wanted,
    /// Somebody else changed the type.
    #[error("somebody else made the group {0} meanwhile, which was left so")]
    Foreign(String),
    /// A change of the type failed that had worked before.
    #[error("{0}")]
    Switch(String, Vec<String>),
    /// The guard.
    #[error(transparent)]
    Guard(#[from] GuardError),
    /// The disk.
    #[error(transparent)]
    Disk(#[from] DiskError),
}

/// The resources of a measurement.
pub struct Means<'a> {
    /// The machine.
    pub context: &'a Context,
    /// The group.
    pub group: GroupId,
    /// The disk.
    pub disk: &'a Disk,
    /// The termination signals, polled all the time.
    pub signals: &'a mut Signals,
    /// The directory of the lock that others wait for; `None` without the lock, if nothing is changed.
    pub run: Option<&'a PrivateDir>,
    /// What changes the type; `None` if it is never changed.
    pub keeper: Option<&'a mut GuardClient>,
    /// How long each change of the type took is added to these.
    pub changes: &'a mut Vec<Change>,
    /// Called all the time, with the number of slots that are done, and with what is being done now.
    pub tick: &'a mut dyn FnMut(usize, &str),
}

/// The measurement, or the refusal of the other type.
pub enum Ended {
    /// All of it, and how long each change of the type took.
    Whole(Vec<Slot>, Vec<Change>),
    /// The very first change was refused, and nothing is different from before.
    NoOther(Why),
}

impl Means<'_> {
    /// Does all of `schedule`.
    ///
    /// # Errors
    ///
    /// [`Stop`]. The type is not known then; the guard restores it, unless somebody else has changed it.
    pub fn run(&mut self, schedule: &Schedule) -> Result<Ended, Stop> {
        let mut slots = Vec::new();
        let mut now = schedule.order.first().copied();
        // Another order of blocks in each run, too: a disk may remember the last one.
        let seed = u64::from(std::process::id()) << 32;
        for mode in &schedule.order {
            let mode = *mode;
            if now != Some(mode) {
                let is_first = slots.len() <= schedule.loads.len();
                if let Some(why) = self.make(mode, slots.len(), is_first)? {
                    return Ok(Ended::NoOther(why));
                }
                now = Some(mode);
            }
            for load in schedule.loads.iter().copied() {
                let Load { large, depth } = load;
                let size = if large { "large reads" } else { "reads" };
                let words = format!("group {} is {mode}, {size} at a time: {depth}", self.group);
                let number = slots.len();
                let counted =
                    self.slot(load, schedule.slot, seed + number as u64, &words, number)?;
                slots.push(Slot {
                    mode,
                    load,
                    took: schedule.slot,
                    reads: counted.reads,
                    busy: counted.busy,
                });
            }
            // Count the reads only if the kernel still shows the type that they are counted for.
            let found = self.context.sysfs.domain_type(self.group).ok().flatten();
            if found != Some(mode.domain_type()) {
                let name = found.as_ref().map_or("unknown", DomainType::as_str);
                return Err(Stop::Foreign(name.to_owned()));
            }
        }
        Ok(Ended::Whole(slots, std::mem::take(self.changes)))
    }

    /// Makes the group `mode`; returns the reason if the very first change is refused.
    fn make(&mut self, mode: Mode, done: usize, is_first: bool) -> Result<Option<Why>, Stop> {
        let Some(keeper) = self.keeper.as_mut() else {
            return Err(GuardError::Gone.into());
        };
        let words = format!("making group {} {mode}", self.group);
        let tick = &mut self.tick;
        let answer = keeper.make(mode, &mut || tick(done, &words))?;
        match answer {
            GuardReply::Made(milliseconds) => {
                let took = milliseconds.map(|milliseconds| Change { mode, milliseconds });
                self.changes.extend(took);
            }
            GuardReply::Foreign(found) => return Err(Stop::Foreign(found)),
            GuardReply::Failed {
                message,
                advice,
                unchanged: true,
            } if is_first => {
                let why = Why::new(Reason::Kernel, message);
                return Ok(Some(Why { advice, ..why }));
            }
            GuardReply::Failed {
                message, advice, ..
            } => return Err(Stop::Switch(message, advice)),
            GuardReply::Ready | GuardReply::Ended { .. } => return Err(GuardError::Gone.into()),
        }
        self.ask()?;
        Ok(None)
    }

    fn slot(
        &mut self,
        load: Load,
        span: Duration,
        seed: u64,
        words: &str,
        done: usize,
    ) -> Result<Counted, Stop> {
        let (disk, context) = (self.disk, self.context);
        let clock = || context.proc.busy();
        let ask = || {
            (self.tick)(done, words);
            self.ask()
        };
        match disk.read(
            load,
            span,
            seed.wrapping_mul(0x9e37_79b9_7f4a_7c15),
            clock,
            ask,
        ) {
            Ok(counted) => Ok(counted),
            Err(Cut::Disk(error)) => Err(error.into()),
            Err(Cut::Told(stop)) => Err(stop),
        }
    }

    /// Checks whether to continue.
    fn ask(&mut self) -> Result<(), Stop> {
        if let Some(signal) = self.signals.seen() {
            return Err(Stop::Signal(signal));
        }
        if let Some(keeper) = &mut self.keeper {
            keeper.beat()?;
        }
        // If the lock cannot be read, nobody counts as waiting.
        match self.run.map(Lock::is_wanted) {
            Some(Ok(true)) => Err(Stop::Wanted),
            _ => Ok(()),
        }
    }
}

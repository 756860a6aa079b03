// SPDX-License-Identifier: GPL-2.0-only
//! Restores the type that a bench changed: in its guard, in the bench if the guard is gone, or later from the journal.
//!
//! Only a change by a bench that is still in effect is undone. If the group has a third type, somebody else has changed it
//! since.

use std::time::Duration;

use iommuctl_policy::DomainType;

use super::journal::BenchJournal;
use crate::audit::event::BENCH;
use crate::audit::trail::Trail;
use crate::bench::mode::Mode;
use crate::change::live::Switch;
use crate::change::outcome::Outcome;
use crate::change::route::Allowed;
use crate::change::session::Session;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::state::lockdown::in_force;

/// How many attempts are made.
const MAX_ATTEMPTS: usize = 3;
/// The delay after a failed attempt.
const RETRY_INTERVAL: Duration = Duration::from_secs(1);

/// The result of restoring a type.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Restored {
    /// There was nothing to restore, for this reason.
    Nothing(&'static str),
    /// The group has its original type again.
    Done,
    /// The group has a type that no bench gave it, and keeps it.
    NotOurs(Option<DomainType>),
    /// The group was not made lazy again now, for this reason; the journal stays.
    Later(String),
    /// It failed; the journal stays.
    Failed(String),
}

impl Restored {
    /// Whether nothing is left to do.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        match self {
            Self::Nothing(_) | Self::Done | Self::NotOurs(_) => true,
            Self::Later(_) | Self::Failed(_) => false,
        }
    }

    /// Describes the result, in words that follow the name of the group.
    #[must_use]
    pub fn describe(&self, original: Mode) -> String {
        match self {
            Self::Nothing(why) => format!("nothing had to be put back: {why}"),
            Self::Done => format!("it is {original} again, as before the bench"),
            Self::NotOurs(now) => format!(
                "somebody else has made it {}, and it was left so",
                now.as_ref().map_or("unknown", DomainType::as_str)
            ),
            Self::Later(why) => format!("it was not made {original} again: {why}"),
            Self::Failed(why) => format!("Failed to make it {original} again: {why}"),
        }
    }
}

/// Restores the type of the group of `journal`, if a bench has changed it, and removes the journal. It waits without a limit
/// only while the kernel still works on an earlier change.
#[must_use]
pub fn restore(
    context: &Context,
    session: &Session,
    journal: &BenchJournal,
    timeout: Duration,
) -> Restored {
    let switch = Switch {
        keep: Some(&session.lock),
        ..Switch::new(context, journal.original.request(), Allowed::Live, timeout)
    };
    // Limit the cause to this change: other changes of the group by the same command are not for the bench.
    let trail = &session.trail;
    trail.cause(journal.group(), Some(BENCH));
    let restored = put_back(context, trail, &switch, journal);
    trail.cause(journal.group(), None);
    if restored.is_whole() {
        if let Err(error) = journal.remove(&session.run) {
            return Restored::Failed(error.to_string());
        }
    }
    restored
}

fn put_back(
    context: &Context,
    trail: &Trail,
    switch: &Switch<'_>,
    journal: &BenchJournal,
) -> Restored {
    if !journal.switched {
        return Restored::Nothing("the bench had not changed it");
    }
    let mut last = String::new();
    for attempt in 0..MAX_ATTEMPTS {
        if attempt > 0 {
            std::thread::sleep(RETRY_INTERVAL);
        }
        let group = context
            .sysfs
            .group(journal.group(), &mut Problems::default());
        let Some(group) = group.filter(|g| journal.is_about(g)) else {
            return Restored::Nothing("its devices are gone");
        };
        // This read waits for the group's mutex, and so for a change that a killed process had begun.
        let now = group.domain_type.as_ref();
        if now == Some(&journal.original.domain_type()) {
            return match attempt {
                0 => Restored::Nothing("it has its own type"),
                // The change took longer than the time limit of a write.
                _ => Restored::Done,
            };
        }
        if now != Some(&journal.original.other().domain_type()) {
            return Restored::NotOurs(now.cloned());
        }
        if let Some(why) = not_now(context, journal.original) {
            return Restored::Later(why);
        }
        let results = switch.run(&[group.id].into(), trail, |_| {});
        match results.into_iter().next() {
            Some(result) if matches!(result.outcome, Outcome::Changed | Outcome::Unchanged) => {
                return Restored::Done
            }
            Some(result) => last = result.message.unwrap_or_else(|| "it failed".to_owned()),
            None => {}
        }
    }
    Restored::Failed(last)
}

/// A lockdown that has begun since keeps the group strict.
fn not_now(context: &Context, original: Mode) -> Option<String> {
    if original == Mode::Strict {
        return None;
    }
    match in_force(context.run_root.as_deref()) {
        Ok(None) => None,
        Ok(Some(_)) => Some("a lockdown is in force".to_owned()),
        Err(error) => Some(error.to_string()),
    }
}

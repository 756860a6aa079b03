// SPDX-License-Identifier: GPL-2.0-only
//! Runs a benchmark: the session, the guard, the measurement, and the restoration of the type.

use std::time::Duration;

use anyhow::Context as _;
use iommuctl_policy::GroupId;

use super::disk::Disk;
use super::guard::journal;
use super::guard::parent::{GuardClient, GuardError};
use super::guard::restore::restore;
use super::measure::rounds::{Ended, Means, Stop};
use super::measure::schedule::Schedule;
use crate::change::session::Session;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::{Context, Roots};
use crate::state::unfinished::benches;
use crate::sys::signals::Signals;
use crate::terminal::output::Output;
use crate::terminal::progress::Progress;

/// The parameters of a benchmark.
pub struct Benchmark<'a> {
    /// The machine.
    pub context: &'a Context,
    /// The roots of the machine's file systems, for the guard.
    pub roots: &'a Roots,
    /// The group.
    pub group: GroupId,
    /// The disk.
    pub disk: &'a Disk,
    /// How long the kernel may take for a change of the type.
    pub timeout: Duration,
    /// Begins another session, if the guard has released this one.
    pub begin: &'a dyn Fn(&mut Output) -> anyhow::Result<Session>,
}

impl Benchmark<'_> {
    /// Measures the present type; changes nothing.
    pub fn present(&self, schedule: &Schedule, output: &Output) -> anyhow::Result<Ended> {
        let mut signals = Signals::watch().context("Failed to hold back signals")?;
        let ended = self.slots(schedule, None, None, &mut signals, output);
        Ok(ended.map_err(failure)?)
    }

    /// Measures both types. Before this returns, the type is restored, or the failure to do so is reported.
    pub fn both(
        &self,
        schedule: &Schedule,
        session: Session,
        output: &mut Output,
    ) -> anyhow::Result<Ended> {
        let group = self.group;
        if benches(&session.run)?.contains(&group) {
            let message = format!("a bench of group {group} was interrupted, and is not put back");
            let advice = vec!["`iommuctl recover` does that".to_owned()];
            return Err(Failure::new(Exit::Failed, message)
                .with_advice(advice)
                .into());
        }
        // Block the signals before the guard starts: from then on, it must be told before we end.
        let mut signals = Signals::watch().context("Failed to hold back signals")?;
        let mut keeper = GuardClient::start(group.0, &session.lock, self.timeout, self.roots)?;
        let ended = self.slots(
            schedule,
            Some(&session),
            Some(&mut keeper),
            &mut signals,
            output,
        );
        // End the guard first, whatever the result.
        let end = match keeper.end() {
            Ok(end) => end,
            Err(GuardError::Gone | GuardError::Start(_)) => {
                return Err(self.without_guard(session, output).into())
            }
            Err(silent @ GuardError::Silent(_)) => {
                return Err(not_restored(group, &silent.to_string()).into())
            }
        };
        end.warnings.iter().for_each(|warning| output.warn(warning));
        if !end.whole {
            return Err(not_restored(group, &end.message).into());
        }
        ended.map_err(|stop| {
            let said = matches!(stop, Stop::Foreign(_));
            let mut failure = failure(stop);
            if !said {
                failure.message = format!("{}; {}", failure.message, end.message);
            }
            failure.into()
        })
    }

    /// Restores the type from the journal, after the guard was killed.
    fn without_guard(&self, session: Session, output: &mut Output) -> Failure {
        // Release our copy of the lock, and wait for it again: if the guard was killed in the middle of a change, the child
        // that makes it still holds a copy.
        drop(session);
        let message = GuardError::Gone.to_string();
        match self.put_back(output) {
            // The guard had restored the type before it ended, as it also does while this process is suspended.
            Ok(None) => Failure::new(
                Exit::Failed,
                format!("{message}, and has left nothing to put back"),
            ),
            Ok(Some((true, words))) => Failure::new(Exit::Failed, format!("{message}; {words}")),
            Ok(Some((false, words))) => not_restored(self.group, &words),
            Err(error) => not_restored(self.group, &format!("{error:#}")),
        }
    }

    /// Whether the type is restored, and a description; `None` if there is no journal.
    fn put_back(&self, output: &mut Output) -> anyhow::Result<Option<(bool, String)>> {
        let session = (self.begin)(output)?;
        let Some(journal) = journal::read(&session.run, self.group)? else {
            return Ok(None);
        };
        let restored = restore(self.context, &session, &journal, self.timeout);
        output.warn_all(session.trail.troubles());
        Ok(Some((
            restored.is_whole(),
            restored.describe(journal.original),
        )))
    }

    fn slots(
        &self,
        schedule: &Schedule,
        session: Option<&Session>,
        keeper: Option<&mut GuardClient>,
        signals: &mut Signals,
        output: &Output,
    ) -> Result<Ended, Stop> {
        let total = schedule.slots();
        let mut progress = Progress::of(output.wants_progress(), total, "measurements");
        let mut changes = Vec::new();
        let mut means = Means {
            context: self.context,
            group: self.group,
            disk: self.disk,
            signals,
            run: session.map(|s| &s.run),
            keeper,
            changes: &mut changes,
            tick: &mut |done, doing| progress.tick(done, doing),
        };
        let ended = means.run(schedule);
        progress.finish();
        ended
    }
}

fn failure(stop: Stop) -> Failure {
    let advice = match &stop {
        Stop::Switch(_, advice) => advice.clone(),
        Stop::Wanted => vec!["repeat the command when that one has ended".to_owned()],
        Stop::Foreign(_) => {
            vec!["`iommuctl audit log` may know who did".to_owned()]
        }
        Stop::Signal(_) | Stop::Guard(_) | Stop::Disk(_) => Vec::new(),
    };
    Failure::new(Exit::Failed, stop.to_string()).with_advice(advice)
}

fn not_restored(group: GroupId, why: &str) -> Failure {
    let message = format!("group {group} may not have its own type: {why}");
    Failure::new(Exit::Failed, message).with_advice(vec![
        "`iommuctl recover` puts it back, when what is in the way is gone".to_owned(),
        format!("`iommuctl show {group}` says what it is now"),
    ])
}

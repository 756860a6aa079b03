// SPDX-License-Identifier: GPL-2.0-only
//! The outcome of a change for each group, for reports.

use std::time::Duration;

use iommuctl_policy::{DomainType, Group, GroupId, Route, TypeRequest};
use serde::Serialize;

use super::checks::CheckFinding;
use crate::audit::event::{self, Ending, Interruption};
use crate::exit::Exit;
use crate::kernel::process::Process;

/// How it ended for a group.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It had the type already.
    Unchanged,
    /// It has the type now.
    Changed,
    /// It would be changed (dry run).
    Planned,
    /// A rule forbids it.
    Refused,
    /// The user stopped it before it was changed.
    Stopped,
    /// It failed.
    Failed,
    /// The write timed out.
    TimedOut,
}

impl From<Outcome> for event::EventOutcome {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Unchanged => Self::Unchanged,
            Outcome::Changed => Self::Changed,
            Outcome::Refused => Self::Refused,
            Outcome::Planned | Outcome::Stopped => Self::Stopped,
            Outcome::Failed => Self::Failed,
            Outcome::TimedOut => Self::TimedOut,
        }
    }
}

/// A device of a group.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Member {
    /// Its name in sysfs.
    pub name: String,
    /// The driver bound to it.
    pub driver: Option<String>,
}

/// A write to an attribute.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct WriteReport {
    /// The attribute.
    pub path: String,
    /// The text, without the newline.
    pub text: String,
}

/// A device that was unbound for a moment.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Interrupted {
    /// Its name in sysfs.
    pub device: String,
    /// The driver it had.
    pub driver: String,
    /// The driver it has now; `None` if it has none, or is gone.
    pub driver_now: Option<String>,
    /// The time from its unbinding until all it offers was there again, in milliseconds; `None` if it is not there again.
    pub milliseconds: Option<f64>,
}

/// The result for a group. Types are read from the kernel, and never taken from the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct GroupResult {
    /// The group.
    pub group: GroupId,
    /// Its devices.
    pub devices: Vec<Member>,
    /// The type it had before.
    pub old_type: Option<DomainType>,
    /// The type it has now, read from the kernel afterwards; `None` if that is not known.
    pub new_type: Option<DomainType>,
    /// The route taken, or to be taken (dry run); `None` if it came to none.
    pub route: Option<Route>,
    /// The route it would have needed, if it was refused and there is one.
    pub needs: Option<Route>,
    /// How it ended.
    pub outcome: Outcome,
    /// How long the kernel took for the write, or all of a rebind, in milliseconds; `None` if nothing was written.
    pub milliseconds: Option<f64>,
    /// Why it ended so.
    pub message: Option<String>,
    /// What would work instead, one line each.
    pub advice: Vec<String>,
    /// What spoke against interrupting its devices.
    pub findings: Vec<CheckFinding>,
    /// The writes that were made, or would be (dry run).
    pub writes: Vec<WriteReport>,
    /// The devices that were interrupted.
    pub interrupted: Vec<Interrupted>,
    /// The kernel's error number, if the write of the type failed; for the audit.
    #[serde(skip)]
    pub errno: Option<i32>,
    /// The process that wrote the type; for the audit.
    #[serde(skip)]
    pub writer: Option<Process>,
}

impl GroupResult {
    /// An empty result for the group with this number.
    #[must_use]
    pub fn new(group: GroupId) -> Self {
        Self {
            group,
            devices: Vec::new(),
            old_type: None,
            new_type: None,
            route: None,
            needs: None,
            outcome: Outcome::Failed,
            milliseconds: None,
            message: None,
            advice: Vec::new(),
            findings: Vec::new(),
            writes: Vec::new(),
            interrupted: Vec::new(),
            errno: None,
            writer: None,
        }
    }

    /// An empty result for `group`, as it was just read.
    #[must_use]
    pub fn of(group: &Group) -> Self {
        let members = group.devices.iter().map(|d| Member {
            name: d.name.clone(),
            driver: d.driver.clone(),
        });
        Self {
            devices: members.collect(),
            old_type: group.domain_type.clone(),
            new_type: group.domain_type.clone(),
            ..Self::new(group.id)
        }
    }

    /// Sets the outcome of a group that is not changed.
    pub fn leave(&mut self, outcome: Outcome, why: &str) {
        self.outcome = outcome;
        self.message = Some(format!("nothing was done: {why}"));
        self.writes.clear();
    }

    /// The end of the change for the audit, with the requested type.
    #[must_use]
    pub fn ending(&self, request: TypeRequest) -> Ending {
        let interrupted = self.interrupted.iter().map(|i| Interruption {
            device: i.device.clone(),
            milliseconds: i.milliseconds,
        });
        Ending {
            request,
            outcome: self.outcome.into(),
            old_type: self.old_type.clone(),
            new_type: self.new_type.clone(),
            errno: self.errno,
            message: self.message.clone(),
            route: self.route,
            milliseconds: self.milliseconds,
            interrupted: interrupted.collect(),
            writer: self.writer,
        }
    }

    /// Whether the group has the requested type, or would get it.
    #[must_use]
    pub fn is_done(&self) -> bool {
        match self.outcome {
            Outcome::Unchanged | Outcome::Changed | Outcome::Planned => true,
            Outcome::Refused | Outcome::Stopped | Outcome::Failed | Outcome::TimedOut => false,
        }
    }
}

/// Converts to milliseconds, rounded to microseconds; more digits would be noise.
#[must_use]
pub fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}

/// The exit code of a command after `results`.
#[must_use]
pub fn exit(results: &[GroupResult]) -> Exit {
    exit_by(results.iter(), |result| !result.is_done())
}

/// The exit code of a command in which only some unsuccessful results are failures.
pub fn exit_by<'a>(
    results: impl Iterator<Item = &'a GroupResult> + Clone,
    is_failure: impl Fn(&GroupResult) -> bool,
) -> Exit {
    let mut left = results.clone().filter(|r| is_failure(r)).peekable();
    if left.peek().is_none() {
        return Exit::Done;
    }
    let switched = |r: &GroupResult| matches!(r.outcome, Outcome::Changed | Outcome::Planned);
    if results.clone().any(switched) {
        Exit::Partly
    } else if left.all(|r| r.outcome == Outcome::Refused) {
        Exit::Refused
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(outcomes: &[Outcome]) -> Exit {
        let result = |(id, outcome): (u32, &Outcome)| GroupResult {
            outcome: *outcome,
            ..GroupResult::new(GroupId(id))
        };
        let results: Vec<GroupResult> = (0..).zip(outcomes).map(result).collect();
        exit(&results)
    }

    #[test]
    fn exit_codes() {
        use Outcome::{Changed, Failed, Planned, Refused, Stopped, TimedOut, Unchanged};
        assert_eq!(exit_of(&[Changed, Unchanged, Planned]), Exit::Done);
        assert_eq!(exit_of(&[Refused, Refused]), Exit::Refused);
        assert_eq!(exit_of(&[Refused, Failed]), Exit::Failed);
        assert_eq!(exit_of(&[TimedOut]), Exit::Failed);
        assert_eq!(exit_of(&[Stopped]), Exit::Failed);
        assert_eq!(exit_of(&[Changed, Stopped]), Exit::Partly);
        assert_eq!(exit_of(&[Changed, Refused]), Exit::Partly);
        assert_eq!(exit_of(&[Unchanged, TimedOut]), Exit::Failed);
        assert_eq!(exit_of(&[Unchanged, Refused]), Exit::Refused);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! What came of a rebind, as a value.

use std::time::Duration;

use iommuctl_policy::DomainType;
use nix::errno::Errno;

use super::machine::{Bound, WriteError};
use super::plan::Write;

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// As wanted.
    Done,
    /// The user stopped it.
    Stopped,
    /// The kernel was not done in time.
    TimedOut,
    /// A step failed.
    Failed,
}

/// What went wrong.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How that counts.
    pub end: End,
    /// In words.
    pub message: String,
    /// The kernel's answer, if it was to the write of the type.
    pub errno: Option<Errno>,
}

impl Trouble {
    pub(super) fn new(end: End, message: String) -> Self {
        Self {
            end,
            message,
            errno: None,
        }
    }
}

/// What was done to one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// How long it was of no use; `None` if it never was, or still is.
    pub took: Option<Duration>,
    /// Where it is now.
    pub now: Bound,
    /// Whether it was unbound at all.
    pub interrupted: bool,
}

/// What was done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// How it ended.
    pub end: End,
    /// What went wrong first; `None` if nothing did.
    pub trouble: Option<Trouble>,
    /// What else there is to say.
    pub notes: Vec<String>,
    /// The type of the group now; `None` if that is not known.
    pub domain_type: Option<DomainType>,
    /// One for each device of the plan, in its order.
    pub devices: Vec<Interruption>,
    /// The writes that were tried, in their order.
    pub writes: Vec<Write>,
    /// Whether every device that is still there has its driver, so that there is nothing left to recover.
    pub whole: bool,
}

/// How a write that failed so counts.
pub(super) fn end_of(error: &WriteError) -> End {
    match error {
        WriteError::StillWorking => End::TimedOut,
        WriteError::Errno(_) | WriteError::Broken(_) => End::Failed,
    }
}

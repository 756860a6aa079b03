// SPDX-License-Identifier: GPL-2.0-only
//! The result of a rebind, as a value.

use std::time::Duration;

use iommuctl_policy::DomainType;
use nix::errno::Errno;

use super::machine::{Bound, WriteError};
use super::plan::Write;

/// How a rebind ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum End {
    /// Successfully.
    Done,
    /// The user stopped it.
    Stopped,
    /// A write timed out.
    TimedOut,
    /// A step failed.
    Failed,
}

/// The error of a rebind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// How the rebind ends because of it.
    pub end: End,
    /// The message.
    pub message: String,
    /// The errno, if the write of the type failed.
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

/// The interruption of one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interruption {
    /// How long it could not be used; `None` if it always could, or still cannot.
    pub took: Option<Duration>,
    /// Its driver now.
    pub now: Bound,
    /// Whether it was unbound.
    pub interrupted: bool,
}

/// The result of a rebind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Account {
    /// How it ended.
    pub end: End,
    /// The first error; `None` if there was none.
    pub trouble: Option<Trouble>,
    /// Further remarks.
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

/// How the rebind ends because of a failed write.
pub(super) fn end_of(error: &WriteError) -> End {
    match error {
        WriteError::StillWorking => End::TimedOut,
        WriteError::Errno(_) | WriteError::Broken(_) => End::Failed,
    }
}

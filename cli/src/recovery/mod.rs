// SPDX-License-Identifier: GPL-2.0-only
//! Finishes interrupted changes: before a change begins, and as `iommuctl recover`.

pub mod bench;
pub mod rebind;

use std::time::Duration;

use iommuctl_policy::{DomainType, GroupId};
use serde::Serialize;

use crate::bench::guard::journal;
use crate::bench::guard::restore::restore;
use crate::bench::mode::Mode;
use crate::change::session::Session;
use crate::kernel::machine::Context;
use crate::state::unfinished;
use crate::terminal::output::Output;

/// How long the kernel may take to make a group strict again that a benchmark left lazy.
const RESTORE_TIMEOUT: Duration = Duration::from_secs(30);

/// Begins a session, after finishing the benchmarks that were killed.
pub fn begin(context: &Context, timeout: Duration, output: &mut Output) -> anyhow::Result<Session> {
    let session = Session::begin(context, timeout, output)?;
    end_benches(context, &session, output)?;
    Ok(session)
}

/// Makes a group strict again that a bench left lazy when it was killed together with its guard. The next command that changes
/// groups does so first, before a lockdown records the types it finds. A group that was left strict is only reported.
fn end_benches(context: &Context, session: &Session, output: &mut Output) -> anyhow::Result<()> {
    for group in unfinished::benches(&session.run)? {
        let remark = match journal::read(&session.run, group) {
            Ok(None) => continue,
            Ok(Some(journal)) if journal.original == Mode::Strict || !journal.switched => {
                let restored = restore(context, session, &journal, RESTORE_TIMEOUT);
                restored.describe(journal.original)
            }
            Ok(Some(_)) => "`iommuctl recover` finishes it".to_owned(),
            Err(error) => error.to_string(),
        };
        output.remark(&format!(
            "a bench of group {group} was interrupted earlier: {remark}"
        ));
    }
    Ok(())
}

/// The kind of an interrupted change.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupted {
    /// A rebind: its devices were unbound for a change of the type.
    Rebind,
    /// A bench: its type was changed to be measured.
    Bench,
}

/// The result for one group.
#[derive(Debug, Serialize)]
pub struct Recovered {
    pub group: GroupId,
    pub interrupted: Interrupted,
    /// The type it had before the change.
    pub old_type: Option<String>,
    /// The requested type.
    pub request: Option<String>,
    /// The type it has now; `None` if that is not known.
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    pub devices: Vec<RecoveredDevice>,
    /// Whether there is nothing left to do.
    pub done: bool,
    pub message: Option<String>,
    pub advice: Vec<String>,
}

/// A device that was unbound, or was about to be.
#[derive(Debug, Serialize)]
pub struct RecoveredDevice {
    pub name: String,
    /// The driver it had before the change.
    pub driver: String,
    /// The driver that it was found with.
    pub driver_before: Option<String>,
    /// The driver it has now.
    pub driver_now: Option<String>,
    /// Whether it does not exist any more.
    pub gone: bool,
}

impl Recovered {
    /// An empty result.
    fn new(group: GroupId, interrupted: Interrupted) -> Self {
        Self {
            group,
            interrupted,
            old_type: None,
            request: None,
            domain_type: None,
            devices: Vec::new(),
            done: false,
            message: None,
            advice: Vec::new(),
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The last record that was written: `/var/lib/iommuctl/audit-head.json`. It is in another directory than the log, so that a
//! log that was truncated, restored or replaced does not match it.
//!
//! It is written and synced after the log: after a power failure the log can be ahead of the head, but never behind it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::Tip;
use super::json_file::Kept;
use crate::audit::event::{Event, Phase};

/// The last record that was written, and statistics of the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last record.
    #[serde(flatten)]
    pub tip: Tip,
    /// The last record that was dropped when the log was rotated.
    pub dropped: u64,
    /// How many changes ended in which way, since the first record: by the source and the outcome, such as `kernel refused`.
    pub totals: BTreeMap<String, u64>,
}

impl Kept for Head {
    const NAME: &'static str = "audit-head.json";
    const WHAT: &'static str = "the head of an audit log";
}

impl Head {
    /// Counts an event.
    pub fn count(&mut self, event: &Event) {
        if let (Phase::Closed, Some(outcome)) = (event.phase, event.outcome) {
            let key = format!("{} {}", event.learned.as_str(), outcome.as_str());
            *self.totals.entry(key).or_default() += 1;
        }
    }
}

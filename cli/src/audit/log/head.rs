// SPDX-License-Identifier: GPL-2.0-only
//! What was written last: `/var/lib/iommuctl/audit-head.json`. In another folder than the log, so that a log that was cut,
//! restored or replaced does not fit to it.
//!
//! It is written after the log, and synced: so after a power cut the log can be further than the head, never the other way
//! round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::Tip;
use super::json_file::Kept;
use crate::audit::event::{Event, Phase};

/// What was written last, and how much in all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// The last record.
    #[serde(flatten)]
    pub tip: Tip,
    /// The last record that was dropped when the log was rotated.
    pub dropped: u64,
    /// How many changes ended how, since the first record: by how they were learned of and what came of them, such as
    /// `kernel refused`.
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

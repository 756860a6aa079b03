// SPDX-License-Identifier: GPL-2.0-only
//! What was written last: `/var/lib/iommuctl/audit-head.json`. In another folder than the log, so that a log that was cut,
//! restored or replaced does not fit to it.
//!
//! It is written after the log, and synced: so after a power cut the log can be further than the head, never the other way
//! round.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::chain::Tip;
use super::event::{Event, Phase};
use crate::run_dir::{RunDir, RunError};

/// The name of the file.
pub const NAME: &str = "audit-head.json";

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

/// There is no head.
#[derive(Debug, thiserror::Error)]
pub enum HeadError {
    /// Its folder or file is not ours alone, or cannot be used.
    #[error(transparent)]
    Run(#[from] RunError),
    /// It is not what is written here.
    #[error("{path} is not the head of an audit log: {error}")]
    Broken {
        /// The file.
        path: String,
        /// What is wrong.
        error: serde_json::Error,
    },
}

impl Head {
    /// Reads it; `None` if there is none yet.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub fn read(folder: &RunDir) -> Result<Option<Self>, HeadError> {
        let bytes = folder.read(NAME)?;
        let head = bytes.map(|bytes| serde_json::from_slice(&bytes));
        head.transpose().map_err(|error| HeadError::Broken {
            path: folder.display(NAME),
            error,
        })
    }

    /// Puts it in the place of the one before: whole, and synced, or not at all.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub fn write(&self, folder: &RunDir) -> Result<(), HeadError> {
        let broken = |error| HeadError::Broken {
            path: folder.display(NAME),
            error,
        };
        let text = serde_json::to_vec(self).map_err(broken)?;
        Ok(folder.replace(NAME, &text)?)
    }

    /// Counts an event.
    pub fn count(&mut self, event: &Event) {
        if let (Phase::Closed, Some(outcome)) = (event.phase, event.outcome) {
            let key = format!("{} {}", event.learned.as_str(), outcome.as_str());
            *self.totals.entry(key).or_default() += 1;
        }
    }
}

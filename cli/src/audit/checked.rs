// SPDX-License-Identifier: GPL-2.0-only
//! When the log was last verified, and what came of it: `/var/lib/iommuctl/audit-verified.json`. For monitoring: a log that
//! nobody verifies vouches for nothing.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::head::HeadError;
use crate::run_dir::RunDir;

/// The name of the file.
const NAME: &str = "audit-verified.json";

/// What `audit verify` found last.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checked {
    /// When.
    pub time: Timestamp,
    /// Whether nothing spoke against the log.
    pub intact: bool,
    /// How many records it had.
    pub records: u64,
}

impl Checked {
    /// Reads it; `None` if the log was never verified.
    ///
    /// # Errors
    ///
    /// [`HeadError`].
    pub fn read(folder: &RunDir) -> Result<Option<Self>, HeadError> {
        let bytes = folder.read(NAME)?;
        let checked = bytes.map(|bytes| serde_json::from_slice(&bytes));
        checked.transpose().map_err(|error| HeadError::Broken {
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
        let text = serde_json::to_vec(self).map_err(|error| HeadError::Broken {
            path: folder.display(NAME),
            error,
        })?;
        Ok(folder.replace(NAME, &text)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_dir;

    #[test]
    fn what_was_found_last_is_found_again() {
        let (_root, folder) = run_dir();
        assert_eq!(Checked::read(&folder).unwrap(), None);
        let checked = Checked {
            time: Timestamp::from_second(1_700_000_000).unwrap(),
            intact: true,
            records: 7,
        };
        checked.write(&folder).unwrap();
        assert_eq!(Checked::read(&folder).unwrap(), Some(checked));
        folder.replace(NAME, b"{}").unwrap();
        assert!(Checked::read(&folder).is_err());
    }
}

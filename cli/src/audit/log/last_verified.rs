// SPDX-License-Identifier: GPL-2.0-only
//! The result of the last verification: `/var/lib/iommuctl/audit-verified.json`. For monitoring: tampering with a log that is
//! never verified goes unnoticed.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::json_file::Kept;

/// The result of the last `audit verify`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastVerified {
    /// The time of the verification.
    pub time: Timestamp,
    /// Whether the log was intact.
    pub intact: bool,
    /// How many records it had.
    pub records: u64,
}

impl Kept for LastVerified {
    const NAME: &'static str = "audit-verified.json";
    const WHAT: &'static str = "what a verification found";
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_dir;

    #[test]
    fn what_was_found_last_is_found_again() {
        let (_root, folder) = run_dir();
        assert_eq!(LastVerified::read(&folder).unwrap(), None);
        let checked = LastVerified {
            time: Timestamp::from_second(1_700_000_000).unwrap(),
            intact: true,
            records: 7,
        };
        checked.write(&folder).unwrap();
        assert_eq!(LastVerified::read(&folder).unwrap(), Some(checked));
        folder.replace(LastVerified::NAME, b"{}").unwrap();
        let error = LastVerified::read(&folder).unwrap_err().to_string();
        assert!(error.contains("what a verification found"), "{error}");
    }
}

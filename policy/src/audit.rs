// SPDX-License-Identifier: GPL-2.0-only
//! What is configured about the audit: the file `audit.yaml`.

use serde::{Deserialize, Serialize};

use crate::policy::known_version;

/// Which record must be kept, or else nothing is changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Require {
    /// The log or the journal, whichever works.
    #[default]
    Any,
    /// The log.
    Log,
    /// None: what cannot be recorded is done all the same.
    None,
}

/// When a file of the log is full, and how many full ones are kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, expecting = "`size_mib` and `keep`")]
pub struct Rotate {
    /// Megabytes (of 1024 × 1024 bytes) after which a file is full.
    pub size_mib: u32,
    /// How many full files are kept.
    pub keep: u32,
}

impl Default for Rotate {
    fn default() -> Self {
        Self {
            size_mib: 16,
            keep: 8,
        }
    }
}

/// What is configured about the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(
    deny_unknown_fields,
    expecting = "settings of the audit, which begin with `version: 1`"
)]
pub struct AuditSettings {
    /// The version of this format: 1.
    #[serde(deserialize_with = "known_version")]
    pub version: u32,
    /// Which record must be kept, or else nothing is changed.
    #[serde(default)]
    pub require: Require,
    /// Whether the systemd journal is told.
    #[serde(default = "yes")]
    pub journal: bool,
    /// Whether the Linux audit system is told.
    #[serde(default = "yes")]
    pub linux_audit: bool,
    /// The size of the log.
    #[serde(default)]
    pub rotate: Rotate,
}

fn yes() -> bool {
    true
}

impl Default for AuditSettings {
    fn default() -> Self {
        Self {
            version: crate::VERSION,
            require: Require::default(),
            journal: true,
            linux_audit: true,
            rotate: Rotate::default(),
        }
    }
}

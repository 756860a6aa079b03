// SPDX-License-Identifier: GPL-2.0-only
//! The error of a failed system call: what was tried, and on which path.

use std::io;

use nix::errno::Errno;

/// A system call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Failed to {verb} {path}: {}", errno.desc())]
pub struct OsError {
    /// The operation, as a verb.
    pub verb: &'static str,
    /// The path or program.
    pub path: String,
    /// The errno.
    pub errno: Errno,
}

impl OsError {
    /// Whether it failed for a lack of permission.
    #[must_use]
    pub fn is_denied(&self) -> bool {
        matches!(self.errno, Errno::EACCES | Errno::EPERM)
    }
}

/// The errno of an error of the standard library; 0 if it has none.
#[must_use]
pub fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

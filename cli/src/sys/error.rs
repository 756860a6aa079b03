// SPDX-License-Identifier: GPL-2.0-only
//! A system call that failed, and on what: the same for every kind of file.

use std::io;

use nix::errno::Errno;

/// A system call failed.
#[derive(Clone, Debug, thiserror::Error)]
#[error("Failed to {verb} {path}: {}", errno.desc())]
pub struct OsError {
    /// What was tried.
    pub verb: &'static str,
    /// On what.
    pub path: String,
    /// Why it failed.
    pub errno: Errno,
}

impl OsError {
    /// Whether it was not permitted.
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

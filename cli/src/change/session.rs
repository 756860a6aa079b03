// SPDX-License-Identifier: GPL-2.0-only
//! What a command has while it changes groups: the folder in `/run`, the lock in it, and the audit trail. Every command that changes one
//! takes its turn, whichever it is and whoever started it.

use crate::audit::trail::Trail;
use crate::state::change_lock::Lock;
use crate::sys::private_dir::OwnDir;

/// It is ours until this is dropped.
#[derive(Debug)]
pub struct Turn {
    /// Where journals and records are.
    pub run: OwnDir,
    /// Held.
    pub lock: Lock,
    /// Where it is recorded what is changed.
    pub trail: Trail,
}

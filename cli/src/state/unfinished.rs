// SPDX-License-Identifier: GPL-2.0-only
//! Finds interrupted changes by the names of the journals in `/run/iommuctl`. The modules that write them read their content.

use std::path::Path;

use iommuctl_policy::GroupId;

use super::change_lock::Lock;
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// The name of a rebind's journal begins with this; the number of the group follows.
pub const REBIND_PREFIX: &str = "rebind-";
/// The name of a benchmark's journal begins with this; the number of the group follows.
pub const BENCH_PREFIX: &str = "bench-";

/// The groups with the journal of a rebind, by number.
pub fn rebinds(run: &PrivateDir) -> Result<Vec<GroupId>, PrivateDirError> {
    run.groups(REBIND_PREFIX)
}

/// The groups with the journal of a benchmark, by number.
pub fn benches(run: &PrivateDir) -> Result<Vec<GroupId>, PrivateDirError> {
    run.groups(BENCH_PREFIX)
}

/// The groups with a journal, by number.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// The groups with the journal of a rebind.
    pub rebinds: Vec<GroupId>,
    /// The groups with the journal of a benchmark.
    pub benches: Vec<GroupId>,
    /// Whether a process holds the lock: its own journal is there while it works.
    pub busy: bool,
}

impl Unfinished {
    /// Looks in `root` (default `/run`). Returns the directory too, if it exists.
    pub fn look(root: Option<&Path>) -> Result<(Self, Option<PrivateDir>), PrivateDirError> {
        let Some(run) = PrivateDir::find(root)? else {
            return Ok((Self::default(), None));
        };
        // Check the lock before and after listing the journals, so that a process that starts or ends meanwhile is not taken
        // for an interrupted one.
        let before = Lock::is_held(&run)?;
        let found = Self {
            rebinds: rebinds(&run)?,
            benches: benches(&run)?,
            busy: before || Lock::is_held(&run)?,
        };
        Ok((found, Some(run)))
    }
}

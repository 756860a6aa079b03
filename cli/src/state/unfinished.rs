// SPDX-License-Identifier: GPL-2.0-only
//! What was interrupted: the journals in `/run/iommuctl`. Here only their names count; what is in one is known where it is
//! written.

use std::path::Path;

use iommuctl_policy::GroupId;

use super::change_lock::Lock;
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

/// What the name of a rebind's journal begins with; the number of the group follows.
pub const REBIND_PREFIX: &str = "rebind-";
/// The same for a benchmark.
pub const BENCH_PREFIX: &str = "bench-";

/// The groups with a journal of a rebind, by number.
pub fn rebinds(run: &PrivateDir) -> Result<Vec<GroupId>, PrivateDirError> {
    run.groups(REBIND_PREFIX)
}

/// The groups with a journal of a benchmark, by number.
pub fn benches(run: &PrivateDir) -> Result<Vec<GroupId>, PrivateDirError> {
    run.groups(BENCH_PREFIX)
}

/// The groups with a journal, by number.
#[derive(Debug, Default)]
pub struct Unfinished {
    /// Those of rebinds.
    pub rebinds: Vec<GroupId>,
    /// Those of benchmarks.
    pub benches: Vec<GroupId>,
    /// Whether a process is at work, which has a journal for as long as that takes.
    pub busy: bool,
}

impl Unfinished {
    /// Looks in `/run`, or in `root`. The directory is returned as well, if it is there.
    pub fn look(root: Option<&Path>) -> Result<(Self, Option<PrivateDir>), PrivateDirError> {
        let Some(run) = PrivateDir::find(root)? else {
            return Ok((Self::default(), None));
        };
        // Before the journals and after them: a process that begins or ends in between has not been interrupted.
        let before = Lock::is_held(&run)?;
        let found = Self {
            rebinds: rebinds(&run)?,
            benches: benches(&run)?,
            busy: before || Lock::is_held(&run)?,
        };
        Ok((found, Some(run)))
    }
}

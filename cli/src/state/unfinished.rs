// SPDX-License-Identifier: GPL-2.0-only
//! What was interrupted and left a journal in `/run/iommuctl`, for those who only look.

use std::path::Path;

use iommuctl_policy::GroupId;

use super::change_lock::Lock;
use crate::bench;
use crate::change::rebind;
use crate::sys::private_dir::{OwnDir, OwnDirError};

/// The groups with a journal, by number.
#[derive(Debug, Default)]
pub struct Left {
    /// Those of rebinds.
    pub rebinds: Vec<GroupId>,
    /// Those of benches.
    pub benches: Vec<GroupId>,
    /// Whether somebody is at work, and has a journal for as long as that takes.
    pub busy: bool,
}

impl Left {
    /// Looks in `/run`, or in `root`; what is there is returned as well, if it is.
    ///
    /// # Errors
    ///
    /// [`OwnDirError`], if that cannot be known.
    pub fn look(root: Option<&Path>) -> Result<(Self, Option<OwnDir>), OwnDirError> {
        let Some(run) = OwnDir::find(root)? else {
            return Ok((Self::default(), None));
        };
        // Before the journals and after them: who ends or begins in between has not been interrupted.
        let before = Lock::is_held(&run)?;
        let left = Self {
            rebinds: rebind::journal::left_behind(&run)?,
            benches: bench::guard::journal::left_behind(&run)?,
            busy: before || Lock::is_held(&run)?,
        };
        Ok((left, Some(run)))
    }
}

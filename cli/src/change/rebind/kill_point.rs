// SPDX-License-Identifier: GPL-2.0-only
//! Kills the process at a given point of a rebind, like `kill -9`, for tests.
//!
//! The points are before, in the middle of and after the record of each step, and after the step itself, numbered from 1 in the
//! order in which they are reached. A hidden flag sets the point and not an environment variable, which would be inherited
//! unseen. It is in every build, so that the tested program is the shipped one; whoever can pass this flag to root can also
//! kill the process.

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

/// A countdown of the points.
#[derive(Clone, Copy, Debug, Default)]
pub struct KillPoint {
    left: Option<u32>,
}

impl KillPoint {
    /// Kills at the point with this number; `None` for never.
    #[must_use]
    pub fn new(point: Option<u32>) -> Self {
        Self { left: point }
    }

    /// Counts a point that was reached.
    pub fn point(&mut self) {
        let Some(left) = &mut self.left else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            // SIGKILL ends the process here. If even that cannot be sent, the test fails.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

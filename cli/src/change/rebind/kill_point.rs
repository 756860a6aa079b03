// SPDX-License-Identifier: GPL-2.0-only
//! For tests: the process kills itself at a given point of a rebind, as `kill -9` would.
//!
//! The points are before, in the middle and after the record of each step, and after the step itself, numbered from 1 in
//! the order in which they are come by. It is a hidden flag and not a variable of the environment, since those are
//! inherited unseen. It is in every build, so that what is tested is what is shipped; whoever can give root this flag can
//! as well give it a `kill -9`.

use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;

/// Burns down, one point at a time.
#[derive(Clone, Copy, Debug, Default)]
pub struct KillPoint {
    left: Option<u32>,
}

impl KillPoint {
    /// Kills at the point with this number; never without one.
    #[must_use]
    pub fn new(point: Option<u32>) -> Self {
        Self { left: point }
    }

    /// A point was reached.
    pub fn point(&mut self) {
        let Some(left) = &mut self.left else {
            return;
        };
        *left = left.saturating_sub(1);
        if *left == 0 {
            // Nothing of ours runs after this. Where a signal cannot even be sent to oneself, the test notices.
            let _ = kill(Pid::this(), Signal::SIGKILL);
        }
    }
}

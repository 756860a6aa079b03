// SPDX-License-Identifier: GPL-2.0-only
//! Who a process is, as far as the kernel tells (proc(5)).

use crate::audit::event::{printable, Who};
use crate::proc::Proc;

/// The login uid of what no login started.
const NO_LOGIN: u32 = u32::MAX;

impl Who {
    /// This process.
    #[must_use]
    pub fn myself(proc: &Proc) -> Self {
        let pid = std::process::id();
        let mut who = Self {
            pid: Some(pid),
            started: proc.started(pid),
            uid: Some(nix::unistd::getuid().as_raw()),
            login_uid: proc.login_uid(pid),
            command: proc.name(pid),
            ..Self::default()
        };
        who.look(proc, pid);
        who
    }

    /// Adds what only `/proc` tells of process `pid`, which must be the one that is meant.
    pub fn look(&mut self, proc: &Proc, pid: u32) {
        self.executable = proc.executable(pid).map(|text| printable(&text));
        self.unit = proc.unit(pid).map(|text| printable(&text));
    }

    /// A login uid as the kernel has it.
    #[must_use]
    pub fn login(uid: u32) -> Option<u32> {
        (uid != NO_LOGIN).then_some(uid)
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The identity of a process, as far as the kernel shows it (proc(5)).

use crate::audit::event::{Event, Who};
use crate::kernel::process::Process;
use crate::kernel::procfs::Proc;
use crate::sys::printable::printable;

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

    /// Adds the fields that only `/proc` has for process `pid`, which must be the right one.
    pub fn look(&mut self, proc: &Proc, pid: u32) {
        self.executable = proc.executable(pid).map(|text| printable(&text));
        self.unit = proc.unit(pid).map(|text| printable(&text));
    }
}

impl Process {
    /// Whether the process exists, and is not another one with its number.
    #[must_use]
    pub fn is_alive(self, proc: &Proc) -> bool {
        proc.started(self.pid) == Some(self.started)
    }
}

impl Event {
    /// Whether the process that wrote, or is about to, exists.
    #[must_use]
    pub fn is_at_work(&self, proc: &Proc) -> bool {
        self.written_by()
            .is_some_and(|writer| writer.is_alive(proc))
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The identity of a process, unique within a boot: its process id and its start time.

use serde::{Deserialize, Serialize};

/// A process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Process {
    /// Its number.
    pub pid: u32,
    /// When it started, in clock ticks since boot: the 22nd field of `/proc/PID/stat` (proc(5)).
    pub started: u64,
}

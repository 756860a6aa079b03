// SPDX-License-Identifier: GPL-2.0-only
//! The requests of the benchmark to its guard, and the replies: one JSON document per line over a socket.

use serde::{Deserialize, Serialize};

use crate::bench::mode::Mode;

/// A request to the guard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardRequest {
    /// Give the group this type.
    Make(Mode),
    /// A heartbeat: the measuring process is alive.
    Alive,
    /// Restore the type, and end.
    End,
}

/// A reply of the guard.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardReply {
    /// The journal is written, and the measurement can begin.
    Ready,
    /// The group has the requested type, confirmed by the kernel, after so many milliseconds; `None` if it had it already.
    Made(Option<f64>),
    /// Nothing was done: the group has this type, which the guard did not give it.
    Foreign(String),
    /// The change failed.
    Failed {
        /// The reason.
        message: String,
        /// What would help.
        advice: Vec<String>,
        /// Whether the group still has its type from before.
        unchanged: bool,
    },
    /// The guard ends.
    Ended {
        /// Whether nothing is left to restore.
        whole: bool,
        /// A description of what was done.
        message: String,
        /// The problems of recording it.
        warnings: Vec<String>,
    },
}

/// The argument that selects the guard's part of the program.
pub const BENCH_GUARD: &str = "bench-guard";

// SPDX-License-Identifier: GPL-2.0-only
//! What the benchmark asks its guard, and what the guard answers: one JSON document on each line of a socket.

use serde::{Deserialize, Serialize};

use crate::bench::mode::Mode;

/// What a guard is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardRequest {
    /// Make the group so.
    Make(Mode),
    /// Nothing: the one that measures is there.
    Alive,
    /// Put the type back, and end.
    End,
}

/// What it answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum GuardReply {
    /// The journal is there; it can begin.
    Ready,
    /// The group has the type that was asked for, as the kernel says, after so many milliseconds; `None` if it had it.
    Made(Option<f64>),
    /// Nothing was done: the group has another type than the guard gave it, this one.
    Foreign(String),
    /// It did not work.
    Failed {
        /// Why.
        message: String,
        /// What would help.
        advice: Vec<String>,
        /// Whether the group still has the type it had before.
        unchanged: bool,
    },
    /// The end.
    Ended {
        /// Whether nothing is left to put back.
        whole: bool,
        /// What was done, in words.
        message: String,
        /// What was not recorded as it should be.
        warnings: Vec<String>,
    },
}

/// By what the process that puts the type back is known from one that somebody typed.
pub const BENCH_GUARD: &str = "bench-guard";

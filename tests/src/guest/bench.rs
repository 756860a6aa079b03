// SPDX-License-Identifier: GPL-2.0-only
//! What every scenario gets: a way to report, and the answer to "long form or short".

use std::fmt::Display;
use std::fs::File;
use std::io::Write as _;
use std::sync::Mutex;
use std::time::{Duration, Instant};

use anyhow::Result;

use crate::report::Line;

/// How often there is word of a long scenario.
const WORD: Duration = Duration::from_secs(10);

/// The line to the host.
#[derive(Debug)]
pub struct Bench {
    out: Mutex<File>,
    /// Whether the long forms were asked for.
    pub full: bool,
}

impl Bench {
    /// Reports go to `out`.
    pub fn new(out: File, full: bool) -> Self {
        Self {
            out: Mutex::new(out),
            full,
        }
    }

    /// Sends one line.
    pub fn send(&self, line: &Line) {
        let mut out = self
            .out
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        // When the line to the host is gone, the host sees just that.
        let _ = writeln!(out, "{line}");
    }

    /// Reports whether something is as it should be: `Ok` with what was seen, or the error.
    pub fn check(&self, name: &str, result: Result<impl Display>) -> bool {
        let (good, detail) = match result {
            // What went well is told in one line; what did not, in full.
            Ok(detail) => (
                true,
                detail
                    .to_string()
                    .lines()
                    .next()
                    .unwrap_or_default()
                    .to_owned(),
            ),
            Err(error) => (false, format!("{error:#}")),
        };
        self.send(&Line::Check(name.to_owned(), good, detail));
        good
    }

    /// Reports a figure.
    pub fn fact(&self, key: &str, value: impl Display) {
        self.send(&Line::Fact(key.to_owned(), value.to_string()));
    }

    /// Narrates.
    pub fn say(&self, text: impl Display) {
        self.send(&Line::Say(text.to_string()));
    }

    /// The numbers of so many rounds, with word of it now and then: a machine that says nothing for long is taken for dead.
    pub fn rounds(&self, count: usize) -> impl Iterator<Item = usize> + '_ {
        let mut last = Instant::now();
        (0..count).inspect(move |round| {
            if last.elapsed() > WORD {
                self.say(format!("round {round} of {count}"));
                last = Instant::now();
            }
        })
    }

    /// One of two numbers: for the short form, and for the long.
    pub fn of(&self, short: usize, long: usize) -> usize {
        if self.full {
            long
        } else {
            short
        }
    }
}

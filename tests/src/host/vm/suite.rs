// SPDX-License-Identifier: GPL-2.0-only
//! For the end-to-end tests: each machine boots once, runs all its scenarios, and every test looks at its own.

use std::sync::{Mutex, OnceLock, PoisonError};

use crate::host::build::progress::{say, seconds};
use crate::host::vm::machines::Kind;
use crate::host::vm::runner::{self, Finished};

/// A machine whose scenarios are tests.
#[derive(Debug)]
pub struct Tested {
    kind: &'static Kind,
    run: OnceLock<Result<Finished, String>>,
}

impl Tested {
    /// Does not start it.
    pub fn new(kind: &'static Kind) -> Self {
        let run = OnceLock::new();
        Self { kind, run }
    }

    /// What went wrong in `scenario`, as text for people; nothing when it went well.
    ///
    /// The machine is started by the first test that asks; the others wait for it.
    pub fn failure(&self, scenario: &str) -> Option<String> {
        let start = || start(self.kind).map_err(|error| format!("{error:#}"));
        match self.run.get_or_init(start) {
            Ok(finished) => finished.failure(scenario),
            Err(reason) => Some(format!("machine `{}`: {reason}", self.kind.name)),
        }
    }
}

fn start(kind: &Kind) -> anyhow::Result<Finished> {
    // One at a time, from the preparations on: cargo and make do not gain from more on a small host.
    static TURN: Mutex<()> = Mutex::new(());
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, finished) = runner::run_whole(kind)?;
    for section in &finished.report.sections {
        for (key, value) in &section.facts {
            say(&format!("   {}: {key} {value}", section.name));
        }
    }
    say(&format!("   {} ran {}", kind.name, seconds(finished.took)));
    Ok(finished)
}

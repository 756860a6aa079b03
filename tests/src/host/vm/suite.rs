// SPDX-License-Identifier: GPL-2.0-only
//! For the end-to-end tests: each machine boots once, runs all its scenarios, and every test looks at its own.

use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use crate::host::build::progress::{say, seconds};
use crate::host::vm::machines::{all, kind};
use crate::host::vm::runner::{self, Finished};

type Run = Arc<Result<Finished, String>>;

/// What went wrong in `scenario` of `machine`, as text for people; nothing when it went well.
///
/// The machine is started by the first test that asks; the others wait for it.
pub fn failure(machine: &str, scenario: &str) -> Option<String> {
    match &*run(machine) {
        Ok(finished) => finished.failure(scenario),
        Err(reason) => Some(format!("machine `{machine}`: {reason}")),
    }
}

fn run(machine: &str) -> Run {
    static RUNS: OnceLock<Vec<OnceLock<Run>>> = OnceLock::new();
    let runs = RUNS.get_or_init(|| all().map(|_| OnceLock::new()).collect());
    let known = all()
        .position(|kind| kind.name == machine)
        .and_then(|index| runs.get(index));
    match known {
        Some(cell) => cell
            .get_or_init(|| Arc::new(start(machine).map_err(|error| format!("{error:#}"))))
            .clone(),
        None => Arc::new(Err("there is no such machine".to_owned())),
    }
}

fn start(machine: &str) -> anyhow::Result<Finished> {
    let kind = kind(machine)?;
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

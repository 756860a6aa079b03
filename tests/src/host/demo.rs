// SPDX-License-Identifier: GPL-2.0-only
//! The demo: boots a machine and prints what it tells, as it tells it.

use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};

use crate::host::build::toolchain::Toolchain;
use crate::host::vm::machines::kind;
use crate::host::vm::runner;
use crate::report::Line;

/// Runs the demo; its last line says whether everything was as it should be.
///
/// # Errors
/// When standard output is gone.
pub fn run() -> Result<ExitCode> {
    let mut out = std::io::stdout();
    let verdict = match show() {
        Ok(()) => Ok(()),
        Err(error) => Err(format!("{error:#}").replace('\n', " ")),
    };
    let (line, code) = match verdict {
        Ok(()) => ("demo: PASS".to_owned(), ExitCode::SUCCESS),
        Err(why) => (format!("demo: FAIL: {why}"), ExitCode::FAILURE),
    };
    writeln!(out, "{line}").context("cannot write to standard output")?;
    Ok(code)
}

fn show() -> Result<()> {
    let kind = kind("demo")?;
    let toolchain = Toolchain::of(kind.arch, kind.flavour)?;
    let boot = toolchain.boot(kind.with_module)?;
    let scenarios = ["demo".to_owned()];
    let finished = runner::run(kind, &toolchain, &boot, &scenarios, &mut narrate)?;
    match finished.failure("demo") {
        Some(failure) => anyhow::bail!("{}", failure.trim()),
        None => Ok(()),
    }
}

fn narrate(line: &Line) {
    let text = match line {
        Line::Say(text) if text.starts_with('$') => format!("\n{text}\n"),
        Line::Say(text) => text.clone(),
        Line::Check(name, false, detail) => format!("FAILED: {name}: {detail}"),
        _ => return,
    };
    // A closed pipe is noticed when the verdict is printed.
    let _ = writeln!(std::io::stdout(), "{text}");
}

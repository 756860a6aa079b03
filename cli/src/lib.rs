// SPDX-License-Identifier: GPL-2.0-only
//! The rooms of the `iommuctl` program, from top to bottom: a room uses only those below it.

// clap: every command, and what it runs.
mod cli;

// One file or folder for each command: arguments, report, text, action.
mod commands;

// Finishing what was interrupted.
mod recovery;

// What lazy is worth on this machine, for one disk.
mod bench;

// Whether everything is in order, and how to fix what is not.
mod doctor;

// Changing the type of groups: routes, checks, live changes, rebinds.
mod change;

// Who changed what: the log, and what it says.
mod audit;

// `/run/iommuctl`: the lock, the record of a lockdown, what was interrupted.
mod state;

// The files of the policy, and the boot loaders' helpers.
mod config;

// sysfs, procfs, the writes to them, and what a target names.
mod kernel;

// Streams, colours, tables, progress.
mod terminal;

// Linux, and nothing that knows of IOMMUs.
mod sys;

// Exit codes.
mod exit;

#[cfg(test)]
mod testing;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

/// Writes attributes of sysfs, if that is what `words` ask for: the program starts itself so to write to groups.
pub fn write_helper(words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let is_asked = kernel::attribute_write::is_asked_to_write(words);
    is_asked.then(|| kernel::attribute_write::child().into())
}

/// Guards a benchmark, if that is what `words` ask for: changes the type for it, and puts it back.
pub fn bench_guard(words: impl Iterator<Item = OsString>) -> Option<ExitCode> {
    let mut words = words.skip(1).peekable();
    words.next_if(|word| word == bench::guard::protocol::BENCH_GUARD)?;
    let name = OsString::from(bench::guard::protocol::BENCH_GUARD);
    let args = bench::guard::child::BenchGuardArgs::parse_from([name].into_iter().chain(words));
    // Its standard error is closed, and whoever started it sees that it has ended.
    let exit = bench::guard::child::child(&args).unwrap_or(exit::Exit::Failed);
    Some(exit.into())
}

/// Runs the command that `words` are.
pub fn command(words: impl Iterator<Item = OsString>) -> ExitCode {
    cli::run(&cli::Args::parse_from(words)).into()
}

// SPDX-License-Identifier: GPL-2.0-only
//! The `iommuctl` program: parses its arguments, runs the command, and ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use iommuctl::args::Args;
use iommuctl::writer;

fn main() -> ExitCode {
    // One for each group that is switched: what all the other commands are is not made up for it.
    match writer::asked_to_write(std::env::args_os()) {
        Some(text) => writer::child(&text).into(),
        None => iommuctl::run(&Args::parse()).into(),
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The `iommuctl` program: parses its arguments, runs the command, and ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use iommuctl::args::Args;

fn main() -> ExitCode {
    iommuctl::run(&Args::parse()).into()
}

// SPDX-License-Identifier: GPL-2.0-only
//! The `iommuctl` program: parses its arguments, runs the command, and ends with its exit code.

use std::process::ExitCode;

use clap::Parser;
use iommuctl::bench::guard::child::BenchGuardArgs;
use iommuctl::bench::guard::protocol::BENCH_GUARD;
use iommuctl::cli::Args;
use iommuctl::kernel::attribute_write;

fn main() -> ExitCode {
    let words = std::env::args_os;
    // One for each group that is switched: what all the other commands are is not made up for it.
    if let Some(text) = attribute_write::asked_to_write(words()) {
        return attribute_write::child(&text).into();
    }
    if words().nth(1).is_some_and(|word| word == BENCH_GUARD) {
        return iommuctl::guard(&BenchGuardArgs::parse_from(words().skip(1))).into();
    }
    iommuctl::cli::run(&Args::parse()).into()
}

// SPDX-License-Identifier: GPL-2.0-only
//! The program behind `make bench`. All of it is in the library, where it is tested: `src/bench/`.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use iommuctl_tests::bench::{run, Arguments};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nowhere left to report to when standard error is gone.
            let _ = writeln!(std::io::stderr(), "bench: {error:#}");
            ExitCode::FAILURE
        }
    }
}

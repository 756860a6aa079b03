// SPDX-License-Identifier: GPL-2.0-only
//! `testbed`: the one program behind every target of the Makefile.

use std::io::Write as _;
use std::process::ExitCode;

use clap::Parser as _;
use iommuctl_tests::host::testbed::{run, Arguments};

fn main() -> ExitCode {
    match run(&Arguments::parse()) {
        Ok(code) => code,
        Err(error) => {
            // Nowhere left to report to when standard error is gone.
            let _ = writeln!(std::io::stderr(), "testbed: {error:#}");
            ExitCode::FAILURE
        }
    }
}

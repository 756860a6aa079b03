// SPDX-License-Identifier: GPL-2.0-only
//! The `iommuctl` program: one of three, as its first argument says.

use std::env::args_os;
use std::process::ExitCode;

fn main() -> ExitCode {
    // First: it is waited for, and the command line of the others is not built for it.
    if let Some(exit) = iommuctl::write_helper(args_os()) {
        return exit;
    }
    if let Some(exit) = iommuctl::bench_guard(args_os()) {
        return exit;
    }
    iommuctl::command(args_os())
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl completions`: a completion script, from the definitions of the command line.

use clap_complete::Shell;

use crate::exit::Exit;
use crate::terminal::output::Output;

/// Runs the command.
pub fn run(shell: Shell, mut command: clap::Command, output: &mut Output) -> anyhow::Result<Exit> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut command, "iommuctl", &mut script);
    output.raw(&script)?;
    Ok(Exit::Done)
}

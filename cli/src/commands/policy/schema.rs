// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy schema`: the JSON Schema of a policy, for editors.

use iommuctl_policy::SCHEMA;

use crate::exit::Exit;
use crate::terminal::output::Output;

/// Runs the command.
pub fn run(output: &mut Output) -> anyhow::Result<Exit> {
    output.raw(SCHEMA.as_bytes())?;
    Ok(Exit::Done)
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy generate`: a policy that keeps the machine as it is now, to begin from.

use std::fmt::Write as _;

use anyhow::anyhow;
use iommuctl_policy::{generate, write};

use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::terminal::output::Output;

/// Where the packages put the schema; the comment makes editors look there.
const SCHEMA_PATH: &str = "/usr/share/iommuctl/policy.schema.json";

/// Runs the command.
pub fn run(context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::default();
    let inventory = context.inventory_for_policy(&mut problems)?;
    let generated = generate(&inventory);
    let yaml = write(&generated.file).map_err(|e| anyhow!("Failed to write the policy: {e}"))?;
    let mut text = format!("# yaml-language-server: $schema={SCHEMA_PATH}\n");
    text.push_str("#\n# What this machine has, as `iommuctl policy generate` found it.\n");
    for line in &generated.left_out {
        writeln!(text, "# Not in here: {line}.")?;
    }
    for line in &generated.tightened {
        writeln!(text, "# Stricter than now: {line}.")?;
    }
    text.push_str(&yaml);
    output.raw(text.as_bytes())?;
    output.warn_all(problems.iter());
    Ok(Exit::Done)
}

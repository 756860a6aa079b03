// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy plan`: what would be changed, by which route, and why.

use std::time::Duration;

use super::apply::{self, ApplyReport};
use super::source::{look, Source};
use crate::change::policy::{exit, Application};
use crate::commands::common::args::Global;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::terminal::output::Output;

/// Arguments of `policy plan`.
#[derive(Debug, clap::Args)]
pub struct PlanArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
    /// Show the groups that are as they should be, too
    #[arg(short, long)]
    pub all: bool,
}

/// Runs the command.
pub fn run(
    args: &PlanArgs,
    global: &Global,
    context: &Context,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let loaded = look(&args.source, global)?;
    let mut problems = Problems::default();
    let inventory = context.inventory_for_policy(&mut problems)?;
    let application = Application {
        context,
        policy: &loaded.policy,
        inventory: &inventory,
        only: None,
        session: None,
        timeout: Duration::ZERO,
    };
    let results = application.run(|_, _, _| {});
    let exit = exit(&results);
    let report = ApplyReport::new(true, loaded.files, results, exit);
    apply::say(&report, args.all, &problems, output)?;
    Ok(exit)
}

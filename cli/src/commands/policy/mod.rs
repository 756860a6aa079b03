// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy`: the commands about policies, one file each.

mod apply;
mod apply_text;
mod check;
mod diff;
mod explain;
mod explain_text;
mod generate;
mod plan;
mod schema;
mod source;

pub use diff::differences;

use crate::cli::{Global, PolicyArgs, PolicyCommand};
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::terminal::output::Output;
use source::{warn_of_distrust, warn_of_ignored};

/// Runs the command.
pub fn run(args: &PolicyArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let open = || Context::open(global);
    if let Some(source) = args.command.source() {
        warn_of_ignored(source, global, output)?;
    }
    for path in args.command.only_looked_at() {
        warn_of_distrust(path, output);
    }
    match &args.command {
        PolicyCommand::Check(check) => check::run(check, global, output),
        PolicyCommand::Plan(plan) => plan::run(plan, global, &open()?, output),
        PolicyCommand::Apply(apply) => apply::run(apply, global, &open()?, output),
        PolicyCommand::Explain(explain) => explain::run(explain, global, &open()?, output),
        PolicyCommand::Generate => generate::run(&open()?, output),
        PolicyCommand::Schema => schema::run(output),
        PolicyCommand::Diff(diff) => diff::run(diff, global, &open()?, output),
    }
}

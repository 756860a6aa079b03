// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy`: the commands about policies, one file each.

mod apply;
pub mod apply_text;
mod check;
mod diff;
mod explain;
pub mod explain_text;
mod generate;
mod plan;
mod schema;

pub use apply::ApplyReport;
pub use check::CheckReport;
pub use diff::{differences, DiffReport};
pub use explain::ExplainReport;

use std::path::Path;

use crate::cli::{Global, PolicyArgs, PolicyCommand, Source};
use crate::config::policy_files::{self, LoadError, Loaded};
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::sys::trusted::Root;
use crate::terminal::output::Output;

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

/// The policy for a command that only looks: of the system, or whatever file it is given.
fn look(source: &Source, global: &Global) -> anyhow::Result<Loaded> {
    let loaded = match &source.path {
        Some(path) => policy_files::look(path),
        None => policy_files::load(&Root::open(global.root.as_deref())?),
    };
    loaded.map_err(|errors| wrong(&errors))
}

/// Says which files of the policy do not count because of their names: a rule that is not heeded protects nobody.
fn warn_of_ignored(source: &Source, global: &Global, output: &mut Output) -> anyhow::Result<()> {
    let ignored = match &source.path {
        Some(path) => policy_files::ignored_in(path),
        None => policy_files::ignored(&Root::open(global.root.as_deref())?),
    };
    for file in ignored {
        output.warn(&format!(
            "{} is ignored: its name does not end in .yaml",
            file.path
        ));
    }
    Ok(())
}

/// Says why `policy apply` will not take a file that was found good by a command that only looks.
fn warn_of_distrust(path: &Path, output: &mut Output) {
    // What cannot be found is an error of the command itself.
    if !path.exists() {
        return;
    }
    if let Some(error) = policy_files::distrust(path) {
        output.warn(&format!("`policy apply` will not take this file: {error}"));
    }
}

/// The policy cannot be used. All that is wrong is said at once.
pub fn wrong(errors: &[LoadError]) -> anyhow::Error {
    let whole = "nothing was changed: a policy counts whole or not at all";
    let lines: Vec<String> = errors.iter().map(ToString::to_string).collect();
    let failure = match lines.as_slice() {
        [one] => Failure::new(Exit::Failed, one).with_advice(vec![whole.to_owned()]),
        many => Failure::new(
            Exit::Failed,
            format!("{} errors in the policy; {whole}", many.len()),
        )
        .with_advice(lines),
    };
    failure.into()
}

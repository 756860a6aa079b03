// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy`: the commands about policies, one file each.

mod apply;
mod check;
mod diff;
mod explain;
mod generate;
mod plan;
mod schema;
mod source;

use std::path::PathBuf;

use clap::Subcommand;

use self::apply::ApplyArgs;
use self::check::CheckArgs;
use self::diff::DiffArgs;
use self::explain::ExplainArgs;
use self::plan::PlanArgs;
use self::source::{warn_of_distrust, warn_of_ignored, Source};
use crate::commands::common::args::Global;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::terminal::output::Output;

/// How the commands about policies end; more to the point than the general table. `check` does not look at the machine.
const CHECK_EXIT: &str = "\
Exit codes:
  0  every file is good
  1  failed: a file is wrong, or not to be trusted
  2  usage: the command line makes no sense";

/// A plan that can be carried out is good, whatever it would change; `diff` and `apply --check` say whether it would.
const PLAN_EXIT: &str = "\
Exit codes:
  0  the policy has its way or would get it, but for rules with on_failure: warn; `apply --check`
     and `diff` tell the two apart
  1  failed: a file is wrong or not to be trusted, no IOMMU
  2  usage: the command line makes no sense
  3  refused: a safety rule, the kernel or the module would not allow what a rule wants
  4  partly: some groups would be changed, others would be refused";

const APPLY_EXIT: &str = "\
Exit codes:
  0  as the policy wants it, but for rules with on_failure: warn
  1  failed: a file is wrong or not to be trusted, no IOMMU, a write failed or took too long
  2  usage: the command line makes no sense
  3  refused: a safety rule, the kernel or the module did not allow what a rule wants
  4  partly: some groups were changed, others not; with --check: something would be changed";

const DIFF_EXIT: &str = "\
Exit codes:
  0  as the policy wants it, whatever on_failure says
  1  failed: a file is wrong or not to be trusted, no IOMMU
  2  usage: the command line makes no sense
  4  something differs, or there is no policy";

/// Where policies are, for the help of every command that reads them.
const FILES_HELP: &str = "\
Files:
  /etc/iommuctl/policy.d/*.yaml             of this machine
  /run/iommuctl/policy.d/*.yaml             until the next boot
  /usr/local/lib/iommuctl/policy.d/*.yaml   of software installed by hand
  /usr/lib/iommuctl/policy.d/*.yaml         of packages

A file replaces those of the same name further down, and a link to /dev/null stands for none. What
remains is read in the order of the names. A file with another suffix is ignored, with a warning.
A file that is wrong, or that somebody other than root can write, stops it all. See iommuctl-policy(5).";

/// Arguments of `policy`.
#[derive(Debug, clap::Args)]
#[command(after_help = FILES_HELP)]
pub struct PolicyArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: PolicyCommand,
}

/// The commands about policies.
#[derive(Debug, Subcommand)]
pub enum PolicyCommand {
    /// Check the files of the policy, without looking at the machine
    #[command(after_help = CHECK_EXIT)]
    Check(CheckArgs),
    /// Show what would be changed, by which route, and why
    #[command(after_help = PLAN_EXIT)]
    Plan(PlanArgs),
    /// Make the machine as the policy wants it
    #[command(after_help = APPLY_EXIT)]
    Apply(ApplyArgs),
    /// Explain what the policy says about a device: which rules were tried, and which decided
    Explain(ExplainArgs),
    /// Print a policy that keeps the machine as it is now, but for external devices, which become strict
    Generate,
    /// Print the JSON Schema of a policy, for editors
    Schema,
    /// Show where the machine differs from the policy; ends with 4 if it does, or if there is no policy
    #[command(after_help = DIFF_EXIT)]
    Diff(DiffArgs),
}

impl PolicyCommand {
    /// Which policy it uses, if it is one that can be told.
    #[must_use]
    pub fn source(&self) -> Option<&Source> {
        match self {
            Self::Plan(args) => Some(&args.source),
            Self::Apply(args) => Some(&args.source),
            Self::Explain(args) => Some(&args.source),
            Self::Diff(args) => Some(&args.source),
            Self::Check(_) | Self::Generate | Self::Schema => None,
        }
    }

    /// The files it is told to look at, and not to apply.
    #[must_use]
    pub fn only_looked_at(&self) -> Vec<&PathBuf> {
        match self {
            Self::Check(args) => args.files.iter().collect(),
            Self::Plan(PlanArgs { source, .. })
            | Self::Explain(ExplainArgs { source, .. })
            | Self::Diff(DiffArgs { source }) => source.path.iter().collect(),
            Self::Apply(_) | Self::Generate | Self::Schema => Vec::new(),
        }
    }
}

/// Runs the command.
pub fn run(args: &PolicyArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let open = || Context::open(&global.roots);
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

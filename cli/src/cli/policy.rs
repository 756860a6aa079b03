// SPDX-License-Identifier: GPL-2.0-only
//! The command lines of `policy`, `lockdown` and `release`.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;

use super::{seconds, Patience, Wait};
use crate::kernel::target::Target;

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

/// Which policy.
#[derive(Clone, Debug, Default, clap::Args)]
pub struct Source {
    /// Use this file, or the *.yaml files of this directory, in place of the system's policy
    #[arg(long = "policy", value_name = "PATH")]
    pub path: Option<PathBuf>,
}

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Check these files; without any, the files of the system, and who can write them
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

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

/// Arguments of `policy apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
    /// Change nothing, and end with 4 if something would be changed
    #[arg(long)]
    pub check: bool,
    /// Only the group of this device (everything set-mode takes for a target); for hotplug
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<Target>,
    /// Heed iommuctl.policy= on the kernel command line: off does nothing, a path replaces the system's policy
    #[arg(long, conflicts_with = "path")]
    pub boot: bool,
    /// How long to wait for the kernel.
    #[command(flatten)]
    pub kernel: Patience,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
    /// The device: its PCI address or name in sysfs, or anything set-mode takes for a target
    #[arg(value_name = "DEVICE")]
    pub device: String,
}

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
}

/// Arguments of `lockdown`.
#[derive(Debug, clap::Args)]
pub struct LockdownArgs {
    /// Run COMMAND, and go back when it has ended; ends with its exit code
    ///
    /// COMMAND is looked up before anything is switched. Ends with 127 if it is not found and with 126 if it cannot be
    /// run, as env and timeout do. Does not go with --json, since standard output is COMMAND's.
    #[arg(long = "while", value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub command: Vec<OsString>,
    /// Run COMMAND even if not every group could be made strict
    #[arg(long, requires = "command")]
    pub partly: bool,
    /// Say what would be made strict, and what could not be, and do nothing
    #[arg(long, conflicts_with = "command")]
    pub dry_run: bool,
    /// How long to wait for the kernel, for each group; a switch that has begun cannot be cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

/// Arguments of `release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// Say what would be relaxed, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the kernel, for each group; a switch that has begun cannot be cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

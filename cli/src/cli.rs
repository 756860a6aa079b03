// SPDX-License-Identifier: GPL-2.0-only
//! The command line: the commands, and what each runs. Parsing touches nothing; what a target names on this machine is found
//! out when the command runs ([`resolve`](crate::kernel::resolve)).

use std::path::PathBuf;

use clap::{CommandFactory as _, Parser, Subcommand};
use nix::unistd::geteuid;

use crate::commands::audit::{self, AuditArgs};
use crate::commands::bench::args::BenchArgs;
use crate::commands::common::args::Global;
use crate::commands::defaults::{self, DefaultsArgs};
use crate::commands::doctor::{self, DOCTOR_EXIT};
use crate::commands::list::{self, ListArgs};
use crate::commands::lockdown::release::ReleaseArgs;
use crate::commands::lockdown::{self, LockdownArgs};
use crate::commands::metrics::{self, MetricsArgs, METRICS_HELP};
use crate::commands::policy::{self, PolicyArgs};
use crate::commands::recover::{self, RecoverArgs};
use crate::commands::set_mode::{self, SetModeArgs};
use crate::commands::show::{self, ShowArgs};
use crate::commands::watch::{self, WATCH_HELP};
use crate::commands::{bench, completions, man, status};
use crate::exit::{self, Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::resolve::ResolveError;
use crate::sys::private_dir::PrivateDirError;
use crate::sys::trusted::TrustError;
use crate::terminal::output::Output;

/// Shows and changes the DMA policy of IOMMU groups on a running machine.
///
/// An IOMMU group's type is a trade between speed and protection. DMA is strict: when a driver takes memory away
/// from a device, the device cannot reach it any more. DMA-FQ is lazy: it still can, for a moment. identity does
/// not translate at all. iommuctl changes the type of a group while its devices keep working, where that is
/// possible, and says what would work where it is not.
#[derive(Debug, Parser)]
#[command(name = "iommuctl", version, after_help = exit::HELP, max_term_width = 100)]
pub struct Args {
    /// Options of every command.
    #[command(flatten)]
    pub global: Global,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List IOMMU groups and their devices
    #[command(visible_alias = "ls")]
    List(ListArgs),
    /// Show everything about the group of a device
    Show(ShowArgs),
    /// Show the IOMMU, the kernel's defaults, the module, and what was interrupted
    ///
    /// A tighten by iommu_live is over for its writer when the group is strict; what is left of it the module cleans up
    /// afterwards. For each group with which it is not done there is a line: since when the group is strict, how many unmaps came
    /// late (each was strict all the same), and how many of their ranges are lost until the domain is freed. `rmmod iommu_live`
    /// says that the module is in use for as long as there is one.
    Status,
    /// Check whether everything is in order, and say how to fix what is not
    ///
    /// Looks at the IOMMU, the module, its signature, the policy, the initramfs and the audit. It changes nothing. Without
    /// root, what may not be read is said to be unknown.
    #[command(after_help = DOCTOR_EXIT)]
    Doctor,
    /// Change the type of one or more groups
    #[command(visible_alias = "set")]
    SetMode(SetModeArgs),
    /// Measure what lazy is worth on this machine, for one disk; only reads from it
    ///
    /// Random reads past the page cache, small and large, several at a time, in DMA and in DMA-FQ by turns. Each change is live, and interrupts no
    /// device; the type that the group had comes back in the end, however the end comes about. Where there is no way back
    /// that is live, nothing is changed, and only the present type is measured.
    Bench(BenchArgs),
    /// Bring back what an interrupted change left: every device to the driver it had, every bench to the type it found
    Recover(RecoverArgs),
    /// Check, explain and apply the policy: which devices are strict, and which may be lazy
    Policy(PolicyArgs),
    /// Make every group strict now, and remember what was not
    ///
    /// Until it ends, `policy apply` makes no group laxer; `set-mode` still does what it is told.
    #[command(after_help = exit::HELP)]
    Lockdown(LockdownArgs),
    /// Undo lockdown: relax what it made strict, and nothing else
    #[command(after_help = exit::HELP)]
    Release(ReleaseArgs),
    /// Show who changed what, check that nobody has rewritten it, and record what others change
    Audit(AuditArgs),
    /// Show what happens to the types of groups, as it happens (no root needed)
    #[command(after_help = WATCH_HELP)]
    Watch,
    /// Print metrics in the OpenMetrics text format
    #[command(after_help = METRICS_HELP)]
    Metrics(MetricsArgs),
    /// Show what groups start as and why, or change that for the next boot
    Defaults(DefaultsArgs),
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    /// Write the man pages into a directory: one for each command, iommuctl-audit(5), iommuctl-policy(5), iommuctl-rebind(7) and
    /// iommu_live(4)
    Man {
        /// The directory; it must exist
        directory: PathBuf,
    },
}

/// Runs the command that `args` asks for, and says how the program is to end. What there is to say has then been
/// written.
#[must_use]
pub fn run(args: &Args) -> Exit {
    let mut output = args.global.output();
    match dispatch(args, &mut output) {
        Ok(exit) => exit,
        Err(error) => output.failure(&failure(&error)),
    }
}

/// What to say of `error`, and how to end.
fn failure(error: &anyhow::Error) -> Failure {
    let (exit, advice) = if let Some(failure) = error.downcast_ref::<Failure>() {
        (failure.exit, failure.advice.clone())
    } else if let Some(error) = error.downcast_ref::<ResolveError>() {
        (Exit::Failed, error.advice())
    } else if is_for_root(error) {
        (Exit::Failed, vec![RUN_AS_ROOT.to_owned()])
    } else {
        (Exit::Failed, Vec::new())
    };
    Failure::new(exit, format!("{error:#}")).with_advice(advice)
}

/// Advice for unprivileged callers.
const RUN_AS_ROOT: &str = "run it as root, for example with sudo";

/// Whether root would not have met `error`: a file in the program's own directories or in its configuration could not be
/// opened for want of permission.
fn is_for_root(error: &anyhow::Error) -> bool {
    let is = |e: &(dyn std::error::Error + 'static)| {
        let os = match (e.downcast_ref(), e.downcast_ref()) {
            (Some(PrivateDirError::Os(os)), _) | (_, Some(TrustError::Os(os))) => os,
            _ => return false,
        };
        os.is_denied()
    };
    !geteuid().is_root() && error.chain().any(is)
}

fn dispatch(args: &Args, output: &mut Output) -> anyhow::Result<Exit> {
    let open = || Context::open(&args.global.roots);
    match &args.command {
        Command::List(list) => list::run(list, &open()?, output),
        Command::Show(show) => show::run(show, &open()?, output),
        Command::Status => status::run(&open()?, output),
        Command::Doctor => doctor::run(&args.global, output),
        Command::SetMode(set) => set_mode::run(set, &open()?, output),
        Command::Bench(bench) => bench::run(bench, &args.global, output),
        Command::Recover(recover) => recover::run(recover, &args.global, output),
        Command::Policy(policy) => policy::run(policy, &args.global, output),
        Command::Lockdown(lockdown) => lockdown::run(lockdown, &args.global, output),
        Command::Release(release) => lockdown::release::run(release, &args.global, output),
        Command::Defaults(defaults) => defaults::run(defaults, &args.global, output),
        Command::Audit(audit) => audit::run(audit, &args.global, output),
        Command::Watch => watch::run(&args.global, output),
        Command::Metrics(metrics) => metrics::run(metrics, &args.global, output),
        Command::Completions { shell } => completions::run(*shell, Args::command(), output),
        Command::Man { directory } => man::run(Args::command(), directory),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use iommuctl_policy::TypeRequest;

    use super::*;
    use crate::change::checks::Check;

    #[test]
    fn definitions_are_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn last_word_of_set_mode_is_the_type() {
        let args =
            Args::try_parse_from(["iommuctl", "set-mode", "3", "driver:nvme", "dma-fq"]).unwrap();
        let Command::SetMode(set) = args.command else {
            panic!("not set-mode");
        };
        assert_eq!(set.targets.len(), 2);
        assert_eq!(set.request, TypeRequest::DmaFq);
        assert_eq!(set.kernel.timeout, Duration::from_secs(30));
    }

    #[test]
    fn each_flag_overrides_its_own_check() {
        for check in Check::ALL {
            let line = ["iommuctl", "set-mode", check.flag(), "3", "DMA"];
            let Command::SetMode(set) = Args::try_parse_from(line).unwrap().command else {
                panic!("not set-mode");
            };
            assert_eq!(set.overrides.checks(), [check].into(), "{}", check.flag());
        }
    }
}

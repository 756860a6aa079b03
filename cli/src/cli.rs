// SPDX-License-Identifier: GPL-2.0-only
//! The command line, as clap sees it. Nothing here touches the system: what the words mean on this machine is found
//! out in a second step (see `crate::kernel::resolve`).

mod audit;
mod defaults;
mod policy;

use std::path::PathBuf;
use std::time::Duration;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::{ContextKind, ContextValue, ErrorKind};
use clap::{Parser, Subcommand, ValueEnum};
use iommuctl_policy::{ClassFilter, TypeRequest};

use crate::commands::set_mode::overrides::Overrides;
use crate::exit;
use crate::kernel::target::Target;

pub use crate::commands::bench::args::{BenchArgs, BenchGuardArgs, BENCH_GUARD};
pub use audit::{AuditArgs, AuditCommand, LogArgs, MetricsArgs, Period, RecordArgs, ReportArgs};
use audit::{METRICS_HELP, WATCH_HELP};
pub use defaults::{BootDefault, DefaultsArgs, DefaultsCommand};
pub use policy::{
    ApplyArgs, CheckArgs, DiffArgs, ExplainArgs, LockdownArgs, PlanArgs, PolicyArgs, PolicyCommand,
    ReleaseArgs, Source,
};

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

/// The heading over the options of every command.
const GLOBAL: &str = "Global options";

/// Options of every command.
#[derive(Clone, Debug, clap::Args)]
pub struct Global {
    /// Print one JSON document (its "version" is 1)
    #[arg(long, global = true, help_heading = GLOBAL)]
    pub json: bool,
    /// Print errors only
    #[arg(short, long, global = true, help_heading = GLOBAL)]
    pub quiet: bool,
    /// When to use colour; auto is only on a terminal, and respects NO_COLOR
    #[arg(
        long,
        global = true,
        help_heading = GLOBAL,
        value_name = "WHEN",
        default_value = "auto"
    )]
    pub color: Color,
    /// Where sysfs is; anywhere else than /sys is not checked to be a sysfs (for tests)
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        env = "IOMMUCTL_SYSFS_ROOT"
    )]
    pub sysfs_root: Option<PathBuf>,
    /// Where procfs is (for tests)
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        env = "IOMMUCTL_PROC_ROOT"
    )]
    pub proc_root: Option<PathBuf>,
    /// The PCI id database to take names from (for tests)
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "FILE",
        env = "IOMMUCTL_PCI_IDS"
    )]
    pub pci_ids: Option<PathBuf>,
    /// Where /etc, /run and /usr are (for tests)
    #[arg(
        long,
        global = true,
        hide = true,
        value_name = "DIR",
        env = "IOMMUCTL_ROOT"
    )]
    pub root: Option<PathBuf>,
}

/// When to use colour.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Color {
    /// On a terminal, unless NO_COLOR is set.
    Auto,
    /// Always.
    Always,
    /// Never.
    Never,
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
    /// Random reads past the page cache, several at a time, in DMA and in DMA-FQ by turns. Each change is live, and interrupts no
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
    /// Write the man pages into a directory: one for each command, iommuctl-audit(5) and iommuctl-policy(5)
    Man {
        /// The directory; it must exist
        directory: PathBuf,
    },
}

/// How `doctor` ends, for monitoring.
const DOCTOR_EXIT: &str = "\
Exit codes:
  0  nothing is bad; there may be notes, and what could not be looked at
  1  failed: nothing could be looked at
  2  usage: the command line makes no sense
  4  something that was asked for does not work

Levels:
  ok       in order
  note     not wrong, but worth knowing
  bad      something that was asked for does not work
  unknown  it could not be looked at; root may see more";

/// What `type` can read (`iommu_group_show_type` in `drivers/iommu/iommu.c`).
const SHOWN_TYPES: [&str; 6] = [
    "DMA",
    "DMA-FQ",
    "identity",
    "blocked",
    "unmanaged",
    "unknown",
];

/// Arguments of `list`.
#[derive(Debug, Default, clap::Args)]
pub struct ListArgs {
    /// Only groups of this type, as the kernel shows it
    #[arg(long = "type", value_name = "TYPE", value_parser = SHOWN_TYPES, ignore_case = true)]
    pub domain_type: Option<String>,
    /// Only groups with a device that is bound to this driver
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// Only groups with a device of this PCI class: a name such as network or nvme, or hexadecimal such as 02 or 0108
    #[arg(long, value_name = "CLASS")]
    pub class: Option<ClassFilter>,
}

/// How a target is written; the same text for every command that takes one.
const TARGET_HELP: &str = "\
Targets:
  3                 the group with this number
  00:1f.2           the group of this PCI device (also 0000:00:1f.2)
  /dev/nvme0n1      the group of the device behind this node; partitions, dm and md too
  nvme0n1           the same, by the kernel's name of it
  /home             the group of the device this file system is mounted from
  eth0              the group of this network interface
  driver:nvme       every group with a device bound to this driver
  class:network     every group with a device of this PCI class (name, or hexadecimal such as 0108)
  all               every group

A number is always a group, and a path always has a slash in it. Where a name could be
taken for something else, say group:3, pci:00:1f.2, net:eth0 or /dev/nvme0n1. Nothing
is changed unless every target is found.";

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_help = TARGET_HELP)]
pub struct ShowArgs {
    /// What to show: a group or something in it (see below)
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<Target>,
}

/// One command at a time changes groups. The same for each of them.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Wait {
    /// How long to wait for another iommuctl that is changing something; 0 gives up at once
    #[arg(long, value_name = "SECONDS", default_value = "60", value_parser = patience)]
    pub lock_timeout: Duration,
}

/// How long the kernel may take. The same for each command that rebinds.
#[derive(Clone, Copy, Debug, clap::Args)]
pub struct Patience {
    /// How long to wait for the kernel, for each group, and for each step of a rebind; what has begun cannot be
    /// cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
}

/// Arguments of `set-mode`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{TARGET_HELP}\n\n{}", exit::HELP))]
pub struct SetModeArgs {
    /// The groups to change, or something in them (see below)
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<Target>,
    /// The type they shall have
    #[arg(required = true, value_name = "TYPE", value_parser = TypeParser, ignore_case = true)]
    pub request: TypeRequest,
    /// Which way to go: without interrupting a device, or otherwise
    #[arg(long, value_name = "ROUTE", default_value = "live")]
    pub route: RouteChoice,
    /// Let `--route auto` interrupt devices where no live route works
    #[arg(long)]
    pub allow_interrupt: bool,
    /// Say what would be done, down to each write, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the kernel.
    #[command(flatten)]
    pub kernel: Patience,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
    /// What a rebind may do without.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Kill the process at this point of a rebind (for tests)
    #[arg(long, hide = true, value_name = "POINT")]
    pub die_at: Option<u32>,
}

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct RecoverArgs {
    /// Say what was left, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the kernel.
    #[command(flatten)]
    pub kernel: Patience,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
    /// Kill the process at this point (for tests)
    #[arg(long, hide = true, value_name = "POINT")]
    pub die_at: Option<u32>,
}

/// Which routes the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteChoice {
    /// Only routes that do not interrupt a device.
    Live,
    /// Unbind the drivers, change the type, bind them again.
    Rebind,
    /// Live if that works, and if not, with --allow-interrupt, rebind.
    Auto,
}

/// A number of seconds above 0.
pub fn seconds(text: &str) -> Result<Duration, String> {
    let wrong = || "expected a number of seconds above 0, such as 30 or 0.5".to_owned();
    let value: f64 = text.parse().map_err(|_| wrong())?;
    if value <= 0.0 {
        return Err(wrong());
    }
    // A day is longer than anybody waits, and keeps deadlines within what an Instant can hold.
    Duration::try_from_secs_f64(value)
        .map(|d| d.min(Duration::from_secs(86_400)))
        .map_err(|_| wrong())
}

/// The same, and 0 for no time at all.
fn patience(text: &str) -> Result<Duration, String> {
    match text.parse() {
        Ok(0.0) => Ok(Duration::ZERO),
        _ => seconds(text).map_err(|_| "expected a number of seconds, such as 60 or 0".to_owned()),
    }
}

/// Parses a [`TypeRequest`], with its own suggestions, and the valid values for completion scripts.
#[derive(Clone)]
struct TypeParser;

impl TypedValueParser for TypeParser {
    type Value = TypeRequest;

    fn parse_ref(
        &self,
        cmd: &clap::Command,
        _arg: Option<&clap::Arg>,
        value: &std::ffi::OsStr,
    ) -> Result<Self::Value, clap::Error> {
        let text = value.to_string_lossy();
        text.parse()
            .map_err(|error: iommuctl_policy::ParseTypeRequestError| {
                let mut failure = clap::Error::new(ErrorKind::InvalidValue).with_cmd(cmd);
                failure.insert(
                    ContextKind::InvalidArg,
                    ContextValue::String("<TYPE>".into()),
                );
                failure.insert(
                    ContextKind::InvalidValue,
                    ContextValue::String(text.into_owned()),
                );
                failure.insert(
                    ContextKind::ValidValue,
                    ContextValue::Strings(
                        TypeRequest::ALL.iter().map(ToString::to_string).collect(),
                    ),
                );
                let order = "the type comes last, after the targets".to_owned().into();
                failure.insert(
                    ContextKind::Suggested,
                    ContextValue::StyledStrs(vec![order]),
                );
                if let Some(meant) = error.suggestion {
                    failure.insert(
                        ContextKind::SuggestedValue,
                        ContextValue::String(meant.to_string()),
                    );
                }
                failure
            })
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        let help = |request| match request {
            TypeRequest::Dma => "Translated and strict",
            TypeRequest::DmaFq => {
                "Translated and lazy: faster, and for a moment a device can reach freed memory"
            }
            TypeRequest::Identity => "Not translated: fastest, and no protection",
            TypeRequest::Auto => "What the kernel would have chosen at boot",
        };
        let value = move |t: TypeRequest| PossibleValue::new(t.as_str()).help(help(t));
        Some(Box::new(TypeRequest::ALL.into_iter().map(value)))
    }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

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
    fn lock_timeout_may_be_zero() {
        assert_eq!(patience("0"), Ok(Duration::ZERO));
        assert_eq!(patience("1.5"), Ok(Duration::from_millis(1500)));
        assert!(patience("-1").is_err() && patience("x").is_err());
    }

    #[test]
    fn timeout_is_a_positive_number_of_seconds() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for text in ["0", "-1", "nan", "x", ""] {
            assert!(seconds(text).is_err(), "{text:?} was accepted");
        }
        assert_eq!(seconds("1e9"), Ok(Duration::from_secs(86_400)));
        assert!(seconds("inf").is_err());
    }
}

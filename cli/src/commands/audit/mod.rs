// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit`: what was recorded, and recording it.

pub mod entry_lines;
pub mod log;
pub mod period;
pub mod record;
pub mod report;
pub mod verify;

use clap::Subcommand;

use self::log::LogArgs;
use self::period::TIME_HELP;
use self::record::RecordArgs;
use self::report::ReportArgs;
use crate::audit::log::file::{LogError, Places, Snapshot};
use crate::commands::common::args::Global;
use crate::exit::{self, Exit, Failure};
use crate::terminal::output::Output;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// The commands below `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show who changed what: every switch, also those that were refused or failed
    #[command(after_help = TIME_HELP)]
    Log(LogArgs),
    /// Show for each device how long it was in which type, and who changed it
    #[command(after_help = TIME_HELP)]
    Report(ReportArgs),
    /// Check that nobody has edited, removed, moved or cut off records
    #[command(after_help = VERIFY_HELP)]
    Verify,
    /// Record what others change, until stopped (the service iommuctl-audit runs this)
    #[command(after_help = exit::HELP)]
    Record(RecordArgs),
}

const VERIFY_HELP: &str = "\
Exit codes:
  0  the log is as it was written, or its last record is torn, as by a power cut
  1  failed: it cannot be read, or there is none
  3  it is not as it was written";

/// Runs the command.
pub fn run(args: &AuditArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    match &args.command {
        AuditCommand::Log(args) => log::run(args, global, output),
        AuditCommand::Report(args) => report::run(args, global, output),
        AuditCommand::Verify => verify::run(global, output),
        AuditCommand::Record(args) => record::run(args, global, output),
    }
}

/// Where the log of this machine is.
pub fn places(global: &Global) -> Places {
    Places::new(global.roots.root.as_deref())
}

/// The log as it is now; without one, a failure that says how it begins.
pub fn snapshot(places: &Places) -> anyhow::Result<Snapshot> {
    if let Some(snapshot) = Snapshot::take(places).map_err(unreadable)? {
        return Ok(snapshot);
    }
    let message = format!("there is no audit log ({})", places.display());
    let advice = "it begins with the first change, or with `systemctl enable --now iommuctl-audit`";
    let failure = Failure::new(Exit::Failed, message);
    Err(failure.with_advice(vec![advice.to_owned()]).into())
}

/// The log cannot be read; most likely for want of rights.
pub fn unreadable(error: LogError) -> anyhow::Error {
    let is_root = nix::unistd::geteuid().is_root();
    let advice = match is_root {
        true => Vec::new(),
        false => vec!["the audit log is for root alone: run this as root".to_owned()],
    };
    Failure::new(Exit::Failed, error.to_string())
        .with_advice(advice)
        .into()
}

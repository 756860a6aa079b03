// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit`: what was recorded, and recording it.

pub mod entry_lines;
pub mod log;
pub mod record;
pub mod report;
pub mod verify;

use crate::audit::log::file::{LogError, Places, Snapshot};
use crate::cli::{AuditArgs, AuditCommand, Global};
use crate::exit::{Exit, Failure};
use crate::terminal::output::Output;

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
    Places::new(global.root.as_deref())
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

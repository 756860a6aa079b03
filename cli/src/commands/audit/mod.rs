// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit`: what was recorded, and recording it.

pub mod log;
pub mod record;
pub mod report;
pub mod verify;

use crate::args::{AuditArgs, AuditCommand, Global};
use crate::audit::log::{LogError, Places};
use crate::exit::{Exit, Failure};
use crate::output::Output;

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

/// There is no log.
pub fn no_log(places: &Places) -> Failure {
    let message = format!("there is no audit log ({})", places.display());
    Failure::new(Exit::Failed, message).with_advice(vec![
        "it begins with the first change, or with `systemctl enable --now iommuctl-audit`"
            .to_owned(),
    ])
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

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy diff`: where the machine differs from the policy. For monitoring: it changes nothing, asks no route,
//! and ends with 4 if there is a difference, or no policy.

use std::io::{self, Write};

use iommuctl_policy::{differences, Difference};
use serde::Serialize;

use super::source::{look, no_policy, rules, Source};
use crate::commands::common::args::Global;
use crate::config::policy_files::FileReport;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::terminal::output::Output;
use crate::terminal::style;
use crate::terminal::table::Table;

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
}

/// What `policy diff` found.
#[derive(Debug, Serialize)]
pub struct DiffReport {
    pub files: Vec<FileReport>,
    pub differences: Vec<Difference>,
    pub exit_code: u8,
}

/// Runs the command.
pub fn run(
    args: &DiffArgs,
    global: &Global,
    context: &Context,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let loaded = look(&args.source, global)?;
    let policy = loaded.policy;
    let mut problems = Problems::default();
    let inventory = context.inventory_for_policy(&mut problems)?;
    let differences = differences(&policy, &inventory);
    // A policy that has gone missing is not one that is met.
    let exit = if differences.is_empty() && !loaded.files.is_empty() {
        Exit::Done
    } else {
        Exit::Partly
    };
    let report = DiffReport {
        files: loaded.files,
        differences,
        exit_code: exit.code(),
    };
    output.report(&report, write)?;
    output.warn_all(problems.iter());
    Ok(exit)
}

/// Writes it.
pub fn write(w: &mut dyn Write, report: &DiffReport) -> io::Result<()> {
    if report.files.is_empty() {
        return no_policy(w);
    }
    if report.differences.is_empty() {
        return writeln!(w, "Every group is as the policy wants.");
    }
    let mut table = Table::new(["GROUP", "IS", "WANTED", "RULE", "DEVICES"]);
    for difference in &report.differences {
        let is = difference.domain_type.as_ref();
        let wanted = difference.wanted.result();
        let text = match difference.forbidden {
            true => format!("{} (against a safety rule)", difference.wanted),
            false => difference.wanted.to_string(),
        };
        table.row([
            (difference.group.to_string(), style::PLAIN),
            (style::type_text(is).to_owned(), style::of_type(is)),
            (text, style::of_type(wanted.as_ref())),
            (rules(&difference.rules), style::PLAIN),
            (difference.devices.join(", "), style::PLAIN),
        ]);
    }
    table.write(w)
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy check`: whether the files are right, without looking at the machine.

use std::io::{self, Write};
use std::path::PathBuf;

use serde::Serialize;

use super::source::no_policy;
use crate::commands::common::args::Global;
use crate::config::policy_files::{self, wrong, FileReport, Status};
use crate::exit::Exit;
use crate::terminal::output::Output;
use crate::terminal::style;
use crate::terminal::table::Table;

/// Arguments of `policy check`.
#[derive(Debug, clap::Args)]
pub struct CheckArgs {
    /// Check these files; without any, the files of the system, and who can write them
    #[arg(value_name = "FILE")]
    pub files: Vec<PathBuf>,
}

/// What `policy check` found.
#[derive(Debug, Serialize)]
pub struct CheckReport {
    pub files: Vec<FileReport>,
    pub rules: usize,
}

/// Runs the command.
pub fn run(args: &CheckArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let mut report = CheckReport {
        files: Vec::new(),
        rules: 0,
    };
    let mut errors = Vec::new();
    let (results, ignored) = if args.files.is_empty() {
        let root = global.roots.open_root()?;
        (
            vec![policy_files::load(&root)],
            policy_files::ignored(&root),
        )
    } else {
        let files = args.files.iter();
        let ignored = files.clone().flat_map(|f| policy_files::ignored_in(f));
        (
            files.clone().map(|f| policy_files::look(f)).collect(),
            ignored.collect(),
        )
    };
    for result in results {
        match result {
            Ok(loaded) => {
                report.rules += loaded.policy.rules.len();
                report.files.extend(loaded.files);
            }
            Err(wrong) => errors.extend(wrong),
        }
    }
    if !errors.is_empty() {
        return Err(wrong(&errors));
    }
    report.files.extend(ignored);
    output.report(&report, write)?;
    Ok(Exit::Done)
}

/// Writes it.
pub fn write(w: &mut dyn Write, report: &CheckReport) -> io::Result<()> {
    let counts = |file: &FileReport| file.status != Status::Ignored;
    if !report.files.iter().any(counts) {
        no_policy(w)?;
    }
    if report.files.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["FILE", "RULES", "STATUS"]);
    for file in &report.files {
        let (rules, status, style) = match &file.status {
            Status::Used { rules } => (rules.to_string(), "used".to_owned(), style::GOOD),
            Status::Masks => ("-".to_owned(), "masks its name".to_owned(), style::WARN),
            Status::Replaced { by } => ("-".to_owned(), format!("replaced by {by}"), style::DIM),
            Status::Ignored => (
                "-".to_owned(),
                "ignored: its name does not end in .yaml".to_owned(),
                style::WARN,
            ),
        };
        table.row([
            (file.path.clone(), style::PLAIN),
            (rules, style::PLAIN),
            (status, style),
        ]);
    }
    table.write(w)
}

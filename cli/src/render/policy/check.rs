// SPDX-License-Identifier: GPL-2.0-only
//! The output of `policy check`: one row for each file.

use std::io::{self, Write};

use super::no_policy;
use crate::commands::policy::CheckReport;
use crate::config::policy_files::{FileReport, Status};
use crate::terminal::style;
use crate::terminal::table::Table;

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

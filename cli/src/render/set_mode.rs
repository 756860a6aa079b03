// SPDX-License-Identifier: GPL-2.0-only
//! The output of `set-mode`: one row for each group. What went wrong is said on standard error as well.

use std::io::{self, Write};

use iommuctl_policy::TypeRequest;

use super::style;
use super::table::Table;
use crate::commands::set_mode::SetModeReport;
use crate::switch::{GroupResult, Outcome};

/// Writes the table.
pub fn write(w: &mut dyn Write, report: &SetModeReport) -> io::Result<()> {
    rows(w, report.results.iter().map(|r| (r, report.request)))
}

/// Writes a table of groups, each with the type that was asked for.
pub fn rows<'a>(
    w: &mut dyn Write,
    results: impl Iterator<Item = (&'a GroupResult, TypeRequest)>,
) -> io::Result<()> {
    let mut table = Table::new(["GROUP", "WAS", "IS", "ROUTE", "TIME", "RESULT", "DEVICES"]);
    let plain = |text: String| (text, style::PLAIN);
    for (result, request) in results {
        let (was, is) = (result.old_type.as_ref(), result.new_type.as_ref());
        let time = result.milliseconds.map(|ms| format!("{ms:.1} ms"));
        table.row([
            plain(result.group.to_string()),
            (style::type_text(was).to_owned(), style::of_type(was)),
            (style::type_text(is).to_owned(), style::of_type(is)),
            plain(result.route.map_or("-".to_owned(), |r| r.to_string())),
            plain(time.unwrap_or_else(|| "-".to_owned())),
            outcome(result, request),
            plain(devices(result)),
        ]);
    }
    table.write(w)
}

/// How it ended for a group, in a word or two.
pub fn outcome(result: &GroupResult, request: TypeRequest) -> (String, anstyle::Style) {
    match result.outcome {
        Outcome::Unchanged => {
            let kind = style::type_text(result.new_type.as_ref());
            (format!("already {kind}"), style::GOOD)
        }
        Outcome::Changed => ("changed".to_owned(), style::GOOD),
        Outcome::Planned => (format!("would become {request}"), style::PLAIN),
        Outcome::Refused => ("refused".to_owned(), style::WARN),
        Outcome::Failed => ("failed".to_owned(), style::BAD),
        Outcome::TimedOut => ("timed out".to_owned(), style::BAD),
    }
}

/// The devices of a group, each with its driver.
pub fn devices(result: &GroupResult) -> String {
    let name = |m: &crate::switch::Member| match &m.driver {
        Some(driver) => format!("{} ({driver})", m.name),
        None => m.name.clone(),
    };
    let names: Vec<String> = result.devices.iter().map(name).collect();
    names.join(", ")
}

/// The advice for all groups, each line once: many groups are refused for the same reason.
pub fn advice<'a>(results: impl IntoIterator<Item = &'a GroupResult>) -> Vec<&'a str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in results.into_iter().flat_map(|r| &r.advice) {
        if !lines.contains(&line.as_str()) {
            lines.push(line);
        }
    }
    lines
}

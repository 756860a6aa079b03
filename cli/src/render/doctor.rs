// SPDX-License-Identifier: GPL-2.0-only
//! The output of `doctor`: one line for each finding, and below it what puts it right.

use std::io::{self, Write};

use anstyle::Style;

use crate::commands::doctor::DoctorReport;
use crate::doctor::{Finding, Level};
use crate::terminal::style;

/// The widths of the first two columns: those of the longest words there are.
const LEVEL: usize = 7;
const ID: usize = 14;

/// Writes it.
pub fn write(w: &mut dyn Write, report: &DoctorReport) -> io::Result<()> {
    for finding in &report.findings {
        let style = of_level(finding.level);
        let (level, id) = (finding.level.as_str(), finding.id.as_str());
        let text = &finding.text;
        writeln!(w, "{style}{level:<LEVEL$}{style:#}  {id:<ID$}  {text}")?;
        for step in &finding.fix {
            writeln!(w, "{:LEVEL$}  {:ID$}    fix: {step}", "", "")?;
        }
    }
    writeln!(w)?;
    writeln!(w, "{}", verdict(&report.findings))
}

fn of_level(level: Level) -> Style {
    match level {
        Level::Ok => style::GOOD,
        Level::Note | Level::Unknown => style::WARN,
        Level::Bad => style::BAD,
    }
}

/// All of it, in one line.
fn verdict(findings: &[Finding]) -> String {
    let count = |level| findings.iter().filter(|f| f.level == level).count();
    let (bad, unknown) = (count(Level::Bad), count(Level::Unknown));
    let mut words = match bad {
        0 if unknown == 0 => "Everything is in order.".to_owned(),
        0 => "Nothing that could be looked at is bad.".to_owned(),
        n => format!("Bad: {n}."),
    };
    if unknown > 0 {
        words += &format!(" Not known: {unknown}.");
    }
    words
}

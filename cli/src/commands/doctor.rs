// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl doctor`: whether everything is in order, and what to do about what is not.

use std::io::{self, Write};

use anstyle::Style;
use serde::Serialize;

use crate::commands::common::args::Global;
use crate::doctor::{look, Finding, Level, Machine};
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::terminal::output::Output;
use crate::terminal::style;

/// How `doctor` ends, for monitoring.
pub const DOCTOR_EXIT: &str = "\
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

/// What `doctor` found.
#[derive(Debug, Serialize)]
pub struct DoctorReport {
    pub findings: Vec<Finding>,
    pub exit_code: u8,
}

/// Runs the command.
pub fn run(global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(&global.roots)?;
    let mut problems = Problems::default();
    let machine = Machine::open(&context, &global.roots, &mut problems)?;
    let findings = look(&machine);
    let exit = match findings.iter().any(|f| f.level == Level::Bad) {
        true => Exit::Partly,
        false => Exit::Done,
    };
    let report = DoctorReport {
        findings,
        exit_code: exit.code(),
    };
    output.report(&report, write)?;
    output.warn_all(problems.iter());
    Ok(exit)
}

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

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl doctor`: whether everything is in order, and what to do about what is not.

use serde::Serialize;

use crate::cli::Global;
use crate::doctor::{look, Finding, Level, Machine};
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::render;
use crate::terminal::output::Output;

/// What `doctor` found.
#[derive(Debug, Serialize)]
pub struct DoctorReport {
    pub findings: Vec<Finding>,
    pub exit_code: u8,
}

/// Runs the command.
pub fn run(global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(global)?;
    let mut problems = Problems::default();
    let machine = Machine::open(&context, global, &mut problems)?;
    let findings = look(&machine);
    let exit = match findings.iter().any(|f| f.level == Level::Bad) {
        true => Exit::Partly,
        false => Exit::Done,
    };
    let report = DoctorReport {
        findings,
        exit_code: exit.code(),
    };
    output.report(&report, |w, r| render::doctor::write(w, r))?;
    output.problems(&problems);
    Ok(exit)
}

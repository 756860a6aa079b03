// SPDX-License-Identifier: GPL-2.0-only
//! The output of `defaults`.

use std::io::{self, Write};

use crate::commands::defaults::{ChangeReport, DefaultsReport};
use crate::terminal::style;

/// Writes what groups start as, and why.
pub fn write(w: &mut dyn Write, report: &DefaultsReport) -> io::Result<()> {
    let default = match (&report.default_type, &report.default_source) {
        (Some(kind), Some(source)) => format!("{kind}, because of {source}"),
        _ => {
            "unknown: no parameter says, and the kernel's configuration is not readable".to_owned()
        }
    };
    field(w, "groups start as", &default)?;
    let built_in = report.built_in.as_deref();
    field(w, "built in", built_in.unwrap_or("not readable"))?;
    if report.parameters.is_empty() {
        field(w, "command line", "nothing about IOMMUs")?;
    }
    for parameter in &report.parameters {
        field(
            w,
            "command line",
            &format!("{}: {}", parameter.word, parameter.meaning),
        )?;
    }
    let opt_in = match report.platform_opt_in {
        Some(true) => "yes: the kernel protects against external devices even where the IOMMU is off otherwise",
        Some(false) => "no",
        None => "not known (only Intel firmware has one, and only root can read it)",
    };
    field(w, "platform opt-in", opt_in)?;
    let helper = match &report.helper {
        Some(helper) => format!("`iommuctl defaults set` goes through {helper}"),
        None => "no helper that we know writes the command line here".to_owned(),
    };
    match &report.next_boot {
        Some(words) => {
            field(
                w,
                "next boot",
                &format!("{words}, set by `iommuctl defaults set`"),
            )?;
            field(w, "", &helper)
        }
        None => field(w, "next boot", &helper),
    }
}

fn field(w: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "{head}{name:<15}{head:#}  {value}")
}

/// Writes what was done, or would be.
pub fn write_change(w: &mut dyn Write, report: &ChangeReport) -> io::Result<()> {
    if report.actions.is_empty() {
        return writeln!(
            w,
            "There is nothing to undo: nothing was set for the next boot."
        );
    }
    let head = match report.dry_run {
        true => "This would be done:",
        false => "Done. It counts from the next boot on:",
    };
    writeln!(w, "{head}")?;
    report.actions.iter().try_for_each(|a| writeln!(w, "  {a}"))
}

// SPDX-License-Identifier: GPL-2.0-only
//! The output of `policy diff`: one row for each group that differs.

use std::io::{self, Write};

use super::{no_policy, rules};
use crate::commands::policy::DiffReport;
use crate::terminal::style;
use crate::terminal::table::Table;

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

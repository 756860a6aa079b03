// SPDX-License-Identifier: GPL-2.0-only
//! The output of `lockdown` and `release`: one row for each group that was touched, and one line for the rest.

use std::io::{self, Write};

use iommuctl_policy::TypeRequest;

use crate::change::outcome::GroupResult;
use crate::commands::lockdown::LockdownReport;
use crate::commands::set_mode::text::rows;

/// Writes it.
pub fn write(w: &mut dyn Write, report: &LockdownReport, released: bool) -> io::Result<()> {
    if !report.results.is_empty() {
        rows(w, report.results.iter().map(|r| (r, wanted(r))))?;
    }
    let rest = report.groups.saturating_sub(report.results.len());
    let text = match (released, report.results.is_empty()) {
        (false, true) => "Every group is strict already.".to_owned(),
        (false, false) if rest == 0 => return Ok(()),
        (false, false) => format!("The other {rest} groups were strict already."),
        (true, true) => {
            "There is nothing to release: no group is strict because of a lockdown.".to_owned()
        }
        (true, false) => return Ok(()),
    };
    writeln!(w, "{text}")
}

/// The type asked for, which a dry run shows: what would be written says it.
fn wanted(result: &GroupResult) -> TypeRequest {
    let write = result.writes.first();
    let request = write.and_then(|w| w.text.parse().ok());
    request.unwrap_or(TypeRequest::Dma)
}

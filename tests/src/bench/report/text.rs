// SPDX-License-Identifier: GPL-2.0-only
//! The report for a terminal.

use std::fmt::{self, Write as _};

use super::Findings;
use crate::bench::claims::Judged;
use crate::bench::samples::digits;
use crate::bench::stats::Summary;

/// The whole report.
pub fn page(findings: &Findings) -> String {
    let mut text = String::new();
    // A String takes all that is written to it.
    let _ = write(&mut text, findings);
    text
}

fn write(text: &mut String, findings: &Findings) -> fmt::Result {
    writeln!(text, "{}\n", findings.headline())?;
    for (name, value) in findings.about.lines() {
        writeln!(text, "{name:<18}{value}")?;
    }
    writeln!(text, "\n{}\n\nCLAIMS", findings.about.caution())?;
    for judged in &findings.claims {
        claim(text, judged)?;
    }
    writeln!(text, "\nFIGURES")?;
    figures(text, findings)?;
    if !findings.troubles.is_empty() {
        writeln!(text, "\nTROUBLE")?;
    }
    for trouble in &findings.troubles {
        writeln!(text, "{trouble}")?;
    }
    writeln!(text)
}

/// What a claim is about: `gap:live-tighten / gap:rebind ≤ 0.01`.
pub fn about(judged: &Judged) -> String {
    let bottom = judged.bottom.iter();
    let bottom: String = bottom.map(|bottom| format!(" / {bottom}")).collect();
    format!("{}{bottom} {}", judged.top, judged.bound.text())
}

/// What came of it: `0.0043 (0.0031 to 0.0060)`, and a remark.
pub fn outcome(judged: &Judged) -> String {
    let ratio = judged.ratio.map(|r| {
        let [ratio, low, high] = [r.ratio, r.low, r.high].map(digits);
        format!("{ratio} ({low} to {high})")
    });
    let parts: Vec<String> = ratio.into_iter().chain(judged.remark.clone()).collect();
    parts.join("; ")
}

fn claim(text: &mut String, judged: &Judged) -> fmt::Result {
    let outcome = outcome(judged);
    let gap = if outcome.is_empty() { "" } else { ": " };
    let verdict = judged.verdict.text();
    writeln!(text, "{verdict:<15}{}", judged.says)?;
    writeln!(text, "{:<15}{}{gap}{outcome}", "", about(judged))
}

fn figures(text: &mut String, findings: &Findings) -> fmt::Result {
    let heading = [
        "MEASUREMENT",
        "CASE",
        "ROUNDS",
        "MEDIAN",
        "QUARTILES",
        "ALL",
    ];
    let mut rows = vec![heading.map(str::to_owned)];
    for measurement in findings.samples.measurements() {
        for series in findings.samples.cases(measurement) {
            let Some(summary) = Summary::of(&series.values) else {
                continue;
            };
            let value = |value| series.unit().text(value);
            rows.push([
                measurement.to_owned(),
                series.case.clone(),
                summary.rounds.to_string(),
                value(summary.median),
                format!("{} to {}", value(summary.low), value(summary.high)),
                format!("{} to {}", value(summary.least), value(summary.most)),
            ]);
        }
    }
    let width = |column: usize| {
        let cells = rows.iter().filter_map(|row| row.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..heading.len()).map(width).collect();
    for row in &rows {
        let cells: String = row
            .iter()
            .zip(&widths)
            .map(|(cell, width)| format!("{cell:<width$}  "))
            .collect();
        writeln!(text, "{}", cells.trim_end())?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::super::tests::findings;
    use super::*;

    #[test]
    fn claims_and_figures_are_there() {
        let text = page(&findings());
        for part in [
            "holds          No I/O fails in a live tighten\n",
            "failed-count:live-tighten = 0: 0 in 9 rounds\n",
            "gap:live-tighten / gap:rebind ≤ 0.01: ",
            "not measured   `list` of 10,000 groups",
            "machine `bench-many`: it <broke>",
            "gap            none",
            "emulated",
        ] {
            assert!(text.contains(part), "{part:?} is not in\n{text}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The output of `bench`: what was measured, how the types compare, bars, and what follows.

use std::io::{self, Write};

use super::BenchReport;
use crate::bench::covers::Covers;
use crate::bench::measure::figures::{Comparison, Measurement};
use crate::bench::measure::schedule::{loads, LARGE_READ_SIZE};
use crate::bench::measure::stats::Ratio;
use crate::bench::mode::Mode;
use crate::terminal::table::Table;
use crate::terminal::{duration, style};

/// How long the longest bar is, in columns.
const WIDTH: usize = 40;
/// Eighths of a column.
const EIGHTHS: [char; 7] = ['▏', '▎', '▍', '▌', '▋', '▊', '▉'];

/// Writes all of it.
pub fn write(w: &mut dyn Write, report: &BenchReport, unicode: bool) -> io::Result<()> {
    // What is refused is said on standard error.
    let (Some(subject), None) = (&report.subject, &report.refusal) else {
        return Ok(());
    };
    let head = style::HEADING;
    let size = report
        .block_size
        .map_or(String::new(), |bytes| format!("{bytes}-byte "));
    let types: Vec<String> = report.types.iter().map(ToString::to_string).collect();
    let measured = match report.dry_run {
        true => "Would be measured",
        false => "Measured",
    };
    let has_large = report.dry_run || report.large.is_some();
    let slots = report.rounds * report.types.len() * loads(has_large).len();
    let large = match has_large {
        true => format!(", and some of {}", large()),
        false => String::new(),
    };
    writeln!(
        w,
        "{head}{}{head:#} in group {}: {size}random reads{large}",
        subject.node, report.group
    )?;
    writeln!(
        w,
        "{measured} in {}, for {:.0} s in all",
        types.join(" and "),
        slots as f64 * report.slot_ms as f64 / 1e3,
    )?;
    changes(w, report)?;
    if report.measurements.is_empty() {
        return covers(w, report);
    }
    figures(w, &report.measurements, &report.comparisons, unicode)?;
    if let Some(large) = &report.large {
        writeln!(w, "\n{head}The same for reads of {}{head:#}", self::large())?;
        figures(w, &large.measurements, &large.comparisons, unicode)?;
    }
    writeln!(w, "\n{head}Reads in a second{head:#}")?;
    bars(w, &report.measurements, unicode)?;
    if let Some(large) = &report.large {
        writeln!(w, "\n{head}Reads of {} in a second{head:#}", self::large())?;
        bars(w, &large.measurements, unicode)?;
    }
    writeln!(w)?;
    covers(w, report)?;
    recommendation(w, report)
}

/// How large a large read is.
fn large() -> String {
    format!("{} KiB", LARGE_READ_SIZE / 1024)
}

/// What lazy is lazy for: who does not know it takes a difference that is not there for one that was not found.
fn covers(w: &mut dyn Write, report: &BenchReport) -> io::Result<()> {
    writeln!(w, "{}", Covers::words(report.lazy_covers))
}

fn figures(
    w: &mut dyn Write,
    measurements: &[Measurement],
    comparisons: &[Comparison],
    unicode: bool,
) -> io::Result<()> {
    writeln!(w)?;
    table(w, measurements, unicode)?;
    if comparisons.is_empty() {
        return Ok(());
    }
    writeln!(w)?;
    compared(w, comparisons)
}

/// What becomes of the type of the group meanwhile, and what has become of it.
fn changes(w: &mut dyn Write, report: &BenchReport) -> io::Result<()> {
    let group = report.group;
    let (Some(original), [_, other]) = (&report.original_type, report.types.as_slice()) else {
        return Ok(());
    };
    let original = original.as_str();
    match &report.domain_type {
        _ if report.dry_run => writeln!(
            w,
            "Group {group} is {original}; it would be made {other} and {original} again, live, {} times",
            // The types take turns within two rounds: A B, B A.
            report.rounds.div_ceil(2),
        ),
        Some(now) if now.as_str() == original => {
            writeln!(w, "Group {group} is {original} again, as before")?;
            how_long(w, report)
        }
        _ => Ok(()),
    }
}

/// How long the changes of the type took.
fn how_long(w: &mut dyn Write, report: &BenchReport) -> io::Result<()> {
    let mut times: Vec<f64> = report.changes.iter().map(|c| c.milliseconds).collect();
    times.sort_by(f64::total_cmp);
    let (Some(shortest), Some(longest)) = (times.first(), times.last()) else {
        return Ok(());
    };
    let (from, to) = (
        duration::milliseconds(*shortest),
        duration::milliseconds(*longest),
    );
    writeln!(w, "Each change of the type took {from} to {to}")
}

/// Who is strict is green, and who is lazy yellow, as everywhere.
fn of_mode(mode: Mode) -> (String, anstyle::Style) {
    (mode.to_string(), style::of_type(Some(&mode.domain_type())))
}

fn table(w: &mut dyn Write, measurements: &[Measurement], unicode: bool) -> io::Result<()> {
    let mut table = Table::new([
        "AT A TIME",
        "TYPE",
        "READS/S",
        "MEDIAN",
        "99 OF 100",
        "CPU/READ",
    ]);
    let plain = |text: String| (text, style::PLAIN);
    let unit = if unicode { "µs" } else { "us" };
    let time =
        |value: Option<f64>| plain(value.map_or("-".to_owned(), |v| format!("{v:.1} {unit}")));
    let mut last = 0;
    for one in measurements {
        let depth = match one.queue_depth == std::mem::replace(&mut last, one.queue_depth) {
            true => String::new(),
            false => one.queue_depth.to_string(),
        };
        table.row([
            plain(depth),
            of_mode(one.mode),
            plain(format!("{:.0}", one.reads_per_second)),
            time(one.median_us),
            time(one.p99_us),
            time(one.cpu_us_per_read),
        ]);
    }
    table.write(w)
}

fn compared(w: &mut dyn Write, comparisons: &[Comparison]) -> io::Result<()> {
    let mut table = Table::new(["AT A TIME", "LAZY AGAINST STRICT: READS/S", "CPU/READ"]);
    for one in comparisons {
        table.row([
            (one.queue_depth.to_string(), style::PLAIN),
            change(one.reads_per_second, |r| r.low > 1.0),
            change(one.cpu_per_read, |r| r.high < 1.0),
        ]);
    }
    table.write(w)
}

/// `+12.0 % (+9.0 % to +15.2 %)`, set apart if it is a difference.
fn change(ratio: Option<Ratio>, is_good: impl Fn(&Ratio) -> bool) -> (String, anstyle::Style) {
    let Some(ratio) = ratio else {
        return ("-".to_owned(), style::PLAIN);
    };
    let part = |value: f64| {
        let percent = (value - 1.0) * 100.0;
        // Not `-0.0`.
        let percent = if percent.abs() < 0.05 { 0.0 } else { percent };
        format!("{percent:+.1} %")
    };
    let text = format!(
        "{} ({} to {})",
        part(ratio.ratio),
        part(ratio.low),
        part(ratio.high)
    );
    let style = match (ratio.is_difference(), is_good(&ratio)) {
        (false, _) => style::DIM,
        (true, true) => style::GOOD,
        (true, false) => style::WARN,
    };
    (text, style)
}

fn bars(w: &mut dyn Write, measurements: &[Measurement], unicode: bool) -> io::Result<()> {
    let rates = measurements.iter().map(|m| m.reads_per_second);
    let most = rates.fold(0.0, f64::max);
    let mut last = 0;
    for one in measurements {
        let depth = match one.queue_depth == std::mem::replace(&mut last, one.queue_depth) {
            true => String::new(),
            false => one.queue_depth.to_string(),
        };
        let part = if most > 0.0 {
            one.reads_per_second / most
        } else {
            0.0
        };
        let (name, style) = of_mode(one.mode);
        let bar = bar(part, unicode);
        writeln!(
            w,
            "{depth:>4}  {name:<6}  {style}{bar}{style:#} {:.0}",
            one.reads_per_second
        )?;
    }
    Ok(())
}

/// A bar for a part of the whole.
fn bar(part: f64, unicode: bool) -> String {
    // From 0 to 320: no number here is lost or negative.
    let eighths = (part.clamp(0.0, 1.0) * WIDTH as f64 * 8.0).round() as usize;
    if !unicode {
        return "#".repeat((eighths + 4) / 8);
    }
    let mut bar = "█".repeat(eighths / 8);
    if let Some(rest) = (eighths % 8).checked_sub(1).and_then(|n| EIGHTHS.get(n)) {
        bar.push(*rest);
    }
    bar
}

fn recommendation(w: &mut dyn Write, report: &BenchReport) -> io::Result<()> {
    let Some(recommendation) = &report.recommendation else {
        return Ok(());
    };
    let head = style::HEADING;
    writeln!(w, "\n{head}{}{head:#}", recommendation.text)?;
    for line in &recommendation.next {
        writeln!(w, "  - {line}")?;
    }
    if let Some(policy) = &recommendation.policy {
        writeln!(w, "  - for good, in a file in /etc/iommuctl/policy.d:")?;
        for line in policy.lines() {
            writeln!(w, "      {line}")?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_as_long_as_what_they_stand_for() {
        assert_eq!(bar(1.0, false).len(), WIDTH);
        assert_eq!(bar(0.5, false), "#".repeat(20));
        assert_eq!(bar(0.0, true), "");
        assert_eq!(bar(1.0, true), "█".repeat(WIDTH));
        assert_eq!(bar(0.5 + 1.0 / 320.0, true), format!("{}▏", "█".repeat(20)));
        assert_eq!(bar(7.0, false).len(), WIDTH);
    }

    #[test]
    fn a_change_has_its_sign() {
        let ratio = |ratio, low, high| Some(Ratio { ratio, low, high });
        let good = |r: &Ratio| r.low > 1.0;
        let (text, style) = change(ratio(1.12, 1.09, 1.152), good);
        assert_eq!(text, "+12.0 % (+9.0 % to +15.2 %)");
        assert_eq!(style, style::GOOD);
        let (text, style) = change(ratio(0.9999, 0.98, 1.02), good);
        assert_eq!(
            (text.as_str(), style),
            ("+0.0 % (-2.0 % to +2.0 %)", style::DIM)
        );
        assert_eq!(change(None, good).0, "-");
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The output of `audit report` on a terminal. The page is in `html`.

use std::io::{self, Write};

use jiff::tz::TimeZone;
use jiff::Timestamp;

use super::{DeviceHistoryReport, PastReport, SpanReport};
use crate::audit::history::spans::State;
use crate::sys::printable::printable;
use crate::terminal::style;
use crate::terminal::table::Table;

/// The most spans of one device that are shown.
const MAX_ROWS: usize = 20;

/// Writes it: what matters, a line for each device, and more of those that were not
/// strict, or that somebody changed or tried to.
pub fn write(w: &mut dyn Write, report: &PastReport) -> io::Result<()> {
    headline(w, report)?;
    if report.devices.is_empty() {
        return Ok(());
    }
    writeln!(w)?;
    let mut table = Table::new([
        "DEVICE",
        "AT END",
        "STRICT",
        "LAZY",
        "NONE",
        "OTHER",
        "NOT KNOWN",
        "CHANGED",
        "REFUSED",
        "FAILED",
        "INTERRUPTED",
    ]);
    for device in &report.devices {
        table.row(row(device));
    }
    table.write(w)?;
    let tells = |device: &&DeviceHistoryReport| device.not_strict || !device.listed.is_empty();
    for device in report.devices.iter().filter(tells) {
        writeln!(w)?;
        write_device(w, device)?;
    }
    Ok(())
}

/// What matters, in a sentence.
pub fn headline(w: &mut dyn Write, report: &PastReport) -> io::Result<()> {
    let zone = TimeZone::system();
    let length = (report.to.as_millisecond() - report.from.as_millisecond()).max(0);
    let (from, to) = (when(report.from, &zone), when(report.to, &zone));
    writeln!(w, "{from} to {to} ({})", duration(length))?;
    let style = match report.not_strict {
        0 => style::GOOD,
        _ => style::WARN,
    };
    writeln!(w, "{style}{}{style:#}", verdict(report))?;
    if report.nameless > 0 {
        let nameless = report.nameless;
        writeln!(
            w,
            "{nameless} changes or attempts are of groups whose devices are not known"
        )?;
    }
    Ok(())
}

/// How many devices were not strict.
pub fn verdict(report: &PastReport) -> String {
    let all = report.devices.len();
    let devices = if all == 1 { "device" } else { "devices" };
    match (all, report.not_strict) {
        (0, _) => "Nothing is known of any device in this period.".to_owned(),
        (_, 0) => format!(
            "None of {all} {devices} is known to have been anything but strictly protected in this period."
        ),
        (_, weak) => {
            let were = if weak == 1 { "was" } else { "were" };
            format!(
                "{weak} of {all} {devices} {were} not strictly protected at some time in this period."
            )
        }
    }
}

fn row(device: &DeviceHistoryReport) -> [(String, anstyle::Style); 11] {
    let time = |states: &[State], weak: anstyle::Style| {
        let length: i64 = states.iter().map(|state| device.time(*state)).sum();
        match length {
            0 => ("-".to_owned(), style::PLAIN),
            length => (duration(length), weak),
        }
    };
    let count = |n: u64, style: anstyle::Style| match n {
        0 => ("-".to_owned(), style::PLAIN),
        n => (n.to_string(), style),
    };
    let counts = &device.counts;
    [
        (printable(&device.device), style::PLAIN),
        (device.at_end.unwrap_or("-").to_owned(), style::PLAIN),
        time(&[State::Dma, State::Blocked], style::GOOD),
        time(&[State::DmaFq], style::WARN),
        time(&[State::Identity], style::BAD),
        time(&[State::Other], style::PLAIN),
        time(&[State::NotKnown], style::DIM),
        count(counts.changes, style::PLAIN),
        count(counts.refusals, style::WARN),
        count(counts.failures, style::BAD),
        (interrupted(device), style::PLAIN),
    ]
}

/// How often and how long it was without its driver.
pub fn interrupted(device: &DeviceHistoryReport) -> String {
    let counts = &device.counts;
    if counts.interruptions == 0 {
        return "-".to_owned();
    }
    let mut words = format!(
        "{} ({})",
        duration(rounded(counts.interrupted_milliseconds)),
        times(counts.interruptions)
    );
    if counts.not_back > 0 {
        words.push_str(&format!(", {} not back by itself", times(counts.not_back)));
    }
    words
}

fn times(n: u64) -> String {
    match n {
        1 => "once".to_owned(),
        n => format!("{n} times"),
    }
}

/// Milliseconds of a record, which are never too many to be whole.
pub fn rounded(milliseconds: f64) -> i64 {
    #[expect(clippy::cast_possible_truncation, reason = "it saturates")]
    let whole = milliseconds.round() as i64;
    whole
}

fn write_device(w: &mut dyn Write, device: &DeviceHistoryReport) -> io::Result<()> {
    let zone = TimeZone::system();
    let head = style::HEADING;
    let name = printable(&device.device);
    writeln!(w, "{head}{name}{head:#}{}", printable(&about(device)))?;
    let left_out = device.spans.len().saturating_sub(MAX_ROWS);
    if left_out > 0 {
        writeln!(w, "  … and {left_out} before")?;
    }
    for span in device.spans.iter().skip(left_out) {
        write_span(w, span, &zone)?;
    }
    let by = authors(device);
    if !by.is_empty() {
        writeln!(w, "  changed by {}", printable(&by.join("; ")))?;
    }
    if device.counts.unrecorded > 0 {
        writeln!(
            w,
            "  {}: it was another type than the last record said, and nothing says since when",
            times(device.counts.unrecorded)
        )?;
    }
    Ok(())
}

/// What else is known of a device, in brackets.
fn about(device: &DeviceHistoryReport) -> String {
    let mut words = Vec::new();
    words.extend(device.description.clone());
    words.extend(device.ids.clone());
    words.extend(device.driver.clone());
    if device.external {
        words.push("external".to_owned());
    }
    match words.is_empty() {
        true => String::new(),
        false => format!(" ({})", words.join(", ")),
    }
}

/// Who changed it, and how often.
pub fn authors(device: &DeviceHistoryReport) -> Vec<String> {
    let known = device.changed_by.iter();
    let mut by: Vec<String> = known
        .map(|author| {
            let who = author.by.as_deref().unwrap_or("nobody knows whom");
            format!("{who} ({})", author.changes)
        })
        .collect();
    if device.changed_by_others > 0 {
        by.push(format!("others ({})", device.changed_by_others));
    }
    by
}

fn write_span(w: &mut dyn Write, span: &SpanReport, zone: &TimeZone) -> io::Result<()> {
    let style = match span.types.single() {
        Some(State::Dma | State::Blocked) => style::GOOD,
        Some(State::Identity) => style::BAD,
        Some(State::NotKnown) => style::DIM,
        Some(State::Other) => style::PLAIN,
        Some(State::DmaFq) | None => style::WARN,
    };
    let length = span.to.as_millisecond() - span.from.as_millisecond();
    let (from, to) = (when(span.from, zone), when(span.to, zone));
    let (what, length) = (state(span), duration(length));
    writeln!(w, "  {from} to {to}  {style}{what}{style:#} ({length})")
}

/// What a span was, in words.
pub fn state(span: &SpanReport) -> String {
    if span.types.single() == Some(State::NotKnown) {
        return "off or not watched".to_owned();
    }
    let types: Vec<&str> = span.types.iter().map(State::as_str).collect();
    match types.as_slice() {
        [one] => (*one).to_owned(),
        several => format!("{} in turn", several.join(", ")),
    }
}

/// A time, for people.
pub fn when(time: Timestamp, zone: &TimeZone) -> String {
    let time = time.to_zoned(zone.clone());
    time.strftime("%Y-%m-%d %H:%M:%S").to_string()
}

/// A length of time, for people: never more than two units.
pub fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds / 1000;
    let two = |large: i64, unit: &str, small: i64, part: &str| match small {
        0 => format!("{large}{unit}"),
        _ => format!("{large}{unit} {small}{part}"),
    };
    match seconds {
        0 => format!("{milliseconds}ms"),
        1..60 => match milliseconds % 1000 / 100 {
            0 => format!("{seconds}s"),
            tenth => format!("{seconds}.{tenth}s"),
        },
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        3600..86_400 => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
        _ => two(seconds / 86_400, "d", seconds % 86_400 / 3600, "h"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_at_most_two_units() {
        for (milliseconds, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (1500, "1.5s"),
            (59_999, "59.9s"),
            (60_000, "1min"),
            (3_599_000, "59min 59s"),
            (7_260_000, "2h 1min"),
            (90_000_000, "1d 1h"),
        ] {
            assert_eq!(duration(milliseconds), text);
        }
    }
}

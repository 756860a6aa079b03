// SPDX-License-Identifier: GPL-2.0-only
//! The command line of `audit`, `watch` and `metrics`.

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

use crate::audit::event::Outcome;
use crate::exit;

/// Arguments of `audit`.
#[derive(Debug, clap::Args)]
pub struct AuditArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: AuditCommand,
}

/// The commands below `audit`.
#[derive(Debug, Subcommand)]
pub enum AuditCommand {
    /// Show who changed what: every switch, also those that were refused or failed
    #[command(after_help = TIME_HELP)]
    Log(LogArgs),
    /// Show for each device how long it was in which type, and who changed it
    #[command(after_help = TIME_HELP)]
    Report(ReportArgs),
    /// Check that nobody has edited, removed, moved or cut off records
    #[command(after_help = VERIFY_HELP)]
    Verify,
    /// Record what others change, until stopped (the service iommuctl-audit runs this)
    #[command(after_help = exit::HELP)]
    Record(RecordArgs),
}

const TIME_HELP: &str = "\
Times:
  2026-11-25 10:30   on that day; without a time of day, when it begins
  10:30              today
  today, yesterday   when that day begins
  90min, 2h, 3d      so long ago";

const VERIFY_HELP: &str = "\
Exit codes:
  0  the log is as it was written, or its last record is torn, as by a power cut
  1  failed: it cannot be read, or there is none
  3  it is not as it was written";

/// The text below the help of `watch`.
pub const WATCH_HELP: &str = "\
First every group as it is now, then a line for each change, refusal and failure, until Ctrl-C.
With iommu_live loaded the kernel tells at once, and of whoever wrote. Without it, every group
is looked at every two seconds, and nothing says who it was. With --json, one object a line.";

/// The text below the help of `metrics`.
pub const METRICS_HELP: &str = "\
What is root's alone to know (the audit log, and when it was verified) is only there for root.";

/// From when to when.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
pub struct Period {
    /// Only what happened at this time or later (see below)
    #[arg(short = 'S', long, value_name = "TIME", value_parser = moment)]
    pub since: Option<Timestamp>,
    /// Only what happened before this time
    #[arg(short = 'U', long, value_name = "TIME", value_parser = moment)]
    pub until: Option<Timestamp>,
}

/// Arguments of `audit log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Only in this period.
    #[command(flatten)]
    pub period: Period,
    /// Only the group with this number, in whatever boot
    #[arg(short, long, value_name = "NUMBER")]
    pub group: Option<u32>,
    /// Only groups with this device, by its name in sysfs or its PCI ids (0000:00:04.0, 8086:100e)
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Only what this user (a number), process name, program, unit or rule did; or `bench`: what was done to measure
    #[arg(short, long, value_name = "WHO")]
    pub who: Option<String>,
    /// Only what ended so; can be given several times
    #[arg(short, long, value_name = "OUTCOME", value_enum)]
    pub outcome: Vec<Outcome>,
    /// Only this boot
    #[arg(short, long)]
    pub boot: bool,
    /// Only the last of them
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub lines: Option<usize>,
    /// Go on, and show what happens
    #[arg(short, long)]
    pub follow: bool,
}

/// Arguments of `audit record`.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// How many bytes of events the kernel keeps for us while we are busy; a service gets that from its socket unit
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    pub buffer: usize,
}

/// Arguments of `audit report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Only in this period.
    #[command(flatten)]
    pub period: Period,
    /// Write one HTML page that needs nothing else into this file, which only its owner can read
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// Arguments of `metrics`.
#[derive(Debug, clap::Args)]
pub struct MetricsArgs {
    /// Put them into this file instead, whole, for the textfile collector of the Prometheus node exporter
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<PathBuf>,
}

impl ValueEnum for Outcome {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.as_str()))
    }
}

/// A time, in the time zone of whoever types it.
fn moment(text: &str) -> Result<Timestamp, String> {
    parse_moment(text, &Zoned::now())
}

fn parse_moment(text: &str, now: &Zoned) -> Result<Timestamp, String> {
    let wrong = |_| "expected a time such as 2026-11-25 10:30, 10:30, yesterday or 2h".to_owned();
    let zone: &TimeZone = now.time_zone();
    let at = |time: DateTime| time.to_zoned(zone.clone()).map(|z| z.timestamp());
    let midnight = now
        .datetime()
        .date()
        .to_datetime(jiff::civil::Time::midnight());
    match text {
        "now" => return Ok(now.timestamp()),
        "today" => return at(midnight).map_err(wrong),
        "yesterday" => {
            let before = midnight.checked_sub(SignedDuration::from_hours(24));
            return before.and_then(at).map_err(wrong);
        }
        _ => {}
    }
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(time) = text.parse::<DateTime>() {
        return at(time).map_err(wrong);
    }
    if let Ok(time) = text.parse::<jiff::civil::Time>() {
        return at(midnight.date().to_datetime(time)).map_err(wrong);
    }
    let span: jiff::Span = text.parse().map_err(wrong)?;
    let past = now.checked_sub(span.abs()).map_err(wrong)?;
    Ok(past.timestamp())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_people_write_them() {
        let now: Zoned = "2026-11-25T12:00:00+00:00[UTC]".parse().unwrap();
        for (text, wanted) in [
            ("2026-11-24 10:30", "2026-11-24T10:30:00Z"),
            ("2026-11-24", "2026-11-24T00:00:00Z"),
            ("2026-11-24T10:30:00Z", "2026-11-24T10:30:00Z"),
            ("10:30", "2026-11-25T10:30:00Z"),
            ("today", "2026-11-25T00:00:00Z"),
            ("yesterday", "2026-11-24T00:00:00Z"),
            ("90min", "2026-11-25T10:30:00Z"),
            ("2h", "2026-11-25T10:00:00Z"),
            ("3d", "2026-11-22T12:00:00Z"),
        ] {
            let wanted: Timestamp = wanted.parse().unwrap();
            assert_eq!(parse_moment(text, &now), Ok(wanted), "{text}");
        }
        for text in ["", "soon", "25:00", "-"] {
            assert!(parse_moment(text, &now).is_err(), "{text:?}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! From when to when: the times of `audit log` and `audit report`, as people write them.

use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, Zoned};

pub const TIME_HELP: &str = "\
Times:
  2026-11-25 10:30   on that day; without a time of day, when it begins
  10:30              today
  today, yesterday   when that day begins
  90min, 2h, 3d      so long ago";

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

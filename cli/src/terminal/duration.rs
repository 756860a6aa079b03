// SPDX-License-Identifier: GPL-2.0-only
//! How long a switch took, for people: in the unit that fits it. A live tighten takes some tens of microseconds, a rebind
//! seconds.

use std::time::Duration;

use super::locale::is_unicode;

/// `87 µs`, `3.1 ms`, `1.2 s`, `2 min 5 s`; `us` where the terminal can only show ASCII.
#[must_use]
pub fn shown(duration: Duration) -> String {
    text(duration, is_unicode())
}

/// The same for so many milliseconds, as they are in reports and records.
#[must_use]
pub fn milliseconds(milliseconds: f64) -> String {
    // What is no length of time (a record can say anything) shows as none.
    shown(Duration::try_from_secs_f64(milliseconds / 1e3).unwrap_or_default())
}

/// The same, with or without more than ASCII. Below ten of a unit that has parts there is one decimal.
fn text(duration: Duration, unicode: bool) -> String {
    // To the nearest, and with the unit that this then has: never `1000 µs` or `10.0 ms`.
    let micro = rounded(duration.as_nanos(), 1_000);
    if micro < 1_000 {
        let unit = if unicode { "µs" } else { "us" };
        return format!("{micro} {unit}");
    }
    let in_unit = |unit: u128, name: &str| {
        let tenths = rounded(duration.as_nanos(), unit / 10);
        match tenths < 100 {
            true => format!("{}.{} {name}", tenths / 10, tenths % 10),
            false => format!("{} {name}", rounded(duration.as_nanos(), unit)),
        }
    };
    if rounded(duration.as_nanos(), 1_000_000) < 1_000 {
        return in_unit(1_000_000, "ms");
    }
    let seconds = rounded(duration.as_nanos(), 1_000_000_000);
    match seconds {
        0..60 => in_unit(1_000_000_000, "s"),
        60..3600 => two(seconds / 60, "min", seconds % 60, "s"),
        _ => two(seconds / 3600, "h", seconds % 3600 / 60, "min"),
    }
}

fn rounded(nanoseconds: u128, unit: u128) -> u128 {
    (nanoseconds + unit / 2) / unit
}

fn two(large: u128, unit: &str, small: u128, part: &str) -> String {
    match small {
        0 => format!("{large} {unit}"),
        _ => format!("{large} {unit} {small} {part}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_the_unit_that_fits() {
        for (nanoseconds, words) in [
            (0, "0 µs"),
            (87_432, "87 µs"),
            (999_499, "999 µs"),
            (999_500, "1.0 ms"),
            (3_149_000, "3.1 ms"),
            (9_949_999, "9.9 ms"),
            (9_950_000, "10 ms"),
            (771_200_000, "771 ms"),
            (999_600_000, "1.0 s"),
            (1_249_000_000, "1.2 s"),
            (40_000_000_000, "40 s"),
            (59_700_000_000, "1 min"),
            (125_000_000_000, "2 min 5 s"),
            (7_261_000_000_000, "2 h 1 min"),
        ] {
            assert_eq!(text(Duration::from_nanos(nanoseconds), true), words);
        }
        let ascii = text(Duration::from_micros(87), false);
        assert_eq!(ascii, "87 us");
    }

    #[test]
    fn what_is_no_length_of_time_is_none() {
        for wrong in [-1.0, f64::NAN, f64::INFINITY] {
            assert!(milliseconds(wrong).starts_with("0 "), "{wrong}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! What the page says in words. Most of it has parts of the log in it, and is no HTML yet.

use super::text::{authors, duration, interrupted, rounded};
use super::{DeviceHistoryReport, PastReport};
use crate::audit::event::{EventOutcome, Learned};
use crate::audit::history::devices::Change;
use crate::audit::history::spans::State;

/// Who had no protection at all: that is worse than lazy.
pub fn unprotected(report: &PastReport) -> String {
    let is_bare = |device: &&DeviceHistoryReport| device.time(State::Identity) > 0;
    let sentence = match report.devices.iter().filter(is_bare).count() {
        0 => return String::new(),
        1 => "One of them had no protection at all for some of it.".to_owned(),
        n => format!("{n} of them had no protection at all for some of it."),
    };
    format!("<p class=\"bad-text\">{sentence}</p>\n")
}

/// How much is known, as a paragraph.
pub fn known(report: &PastReport, length: i64) -> String {
    let devices = report.devices.iter();
    let not_known: i64 = devices.map(|d| d.time(State::NotKnown)).sum();
    let count = i64::try_from(report.devices.len()).unwrap_or(i64::MAX);
    let all = length.saturating_mul(count);
    if all == 0 || not_known == 0 {
        return String::new();
    }
    format!(
        "<p class=\"soft\">What the devices were is known for {} of the time. For the rest the machine was off, or nobody watched.</p>\n",
        share(all - not_known, all)
    )
}

/// A share in percent: never 100 % or 0 % if it is not all or nothing.
pub fn share(part: i64, all: i64) -> String {
    if all <= 0 {
        return "–".to_owned();
    }
    #[expect(clippy::cast_precision_loss, reason = "it is shown with two digits")]
    let percent = 100.0 * part as f64 / all as f64;
    match part {
        0 => "0 %".to_owned(),
        part if part >= all => "100 %".to_owned(),
        _ if percent > 99.9 => "> 99.9 %".to_owned(),
        _ if percent < 0.1 => "< 0.1 %".to_owned(),
        _ if (1.0..99.0).contains(&percent) => format!("{percent:.0} %"),
        _ => format!("{percent:.1} %"),
    }
}

/// What people call it.
pub fn name(device: &DeviceHistoryReport) -> &str {
    device.description.as_deref().unwrap_or(&device.device)
}

/// What else is known of it.
pub fn about(device: &DeviceHistoryReport) -> String {
    let mut words = Vec::new();
    match device.description {
        Some(_) => words.push(device.device.clone()),
        None => words.extend(device.ids.clone()),
    }
    words.extend(device.driver.clone());
    if device.external {
        words.push("external".to_owned());
    }
    words.join(", ")
}

/// What is counted of a device, in a sentence.
pub fn summary(device: &DeviceHistoryReport) -> String {
    let counts = &device.counts;
    let count = |n: u64, one: &str, many: &str| match n {
        0 => None,
        1 => Some(format!("1 {one}")),
        n => Some(format!("{n} {many}")),
    };
    let parts = [
        count(counts.changes, "change", "changes"),
        count(counts.refusals, "refused", "refused"),
        count(counts.failures, "failed", "failed"),
    ];
    let mut words: Vec<String> = parts.into_iter().flatten().collect();
    if counts.interruptions > 0 {
        words.push(format!("interrupted for {}", interrupted(device)));
    }
    if counts.unrecorded > 0 {
        words.push(format!(
            "{} change{} not recorded: the type was another than the last record said",
            counts.unrecorded,
            if counts.unrecorded == 1 {
                " is"
            } else {
                "s are"
            }
        ));
    }
    let by = authors(device);
    if !by.is_empty() {
        words.push(format!("changed by {}", by.join(", ")));
    }
    words.join("; ")
}

/// What happened, in a few words.
pub fn happened(change: &Change) -> String {
    let old = change.old_type.as_deref().unwrap_or("?");
    let wanted = change.requested.as_deref();
    let wanted = wanted.or(change.new_type.as_deref()).unwrap_or("?");
    let new = change.new_type.as_deref().unwrap_or("?");
    match change.outcome {
        EventOutcome::Changed => format!("{old} → {new}"),
        EventOutcome::Unchanged | EventOutcome::FirstSeen => format!("stays {new}"),
        EventOutcome::Refused => format!("{old} → {wanted} refused"),
        EventOutcome::Denied => format!("{wanted} denied"),
        EventOutcome::Stopped => format!("{old} → {wanted} stopped"),
        EventOutcome::Failed => format!("{old} → {wanted} failed"),
        EventOutcome::TimedOut => format!("{old} → {wanted} took too long"),
    }
}

pub fn details(change: &Change) -> String {
    let mut words = vec![format!("group {}", change.group)];
    if change.learned == Learned::Comparison {
        words.push("found by comparison: it happened then or some time before".to_owned());
    }
    if change.route.as_deref() == Some("rebind") {
        words.push("by rebind".to_owned());
    }
    if let Some(gone) = change.interrupted_milliseconds {
        words.push(format!("interrupted for {}", duration(rounded(gone))));
    }
    if let (true, Some(message)) = (change.outcome.is_failure(), &change.message) {
        words.push(message.clone());
    }
    words.join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_all_is_a_hundred_percent() {
        for (part, all, text) in [
            (0, 0, "–"),
            (0, 9, "0 %"),
            (9, 9, "100 %"),
            (999_999, 1_000_000, "> 99.9 %"),
            (1, 1_000_000, "< 0.1 %"),
            (995, 1000, "99.5 %"),
            (1, 2, "50 %"),
        ] {
            assert_eq!(share(part, all), text);
        }
    }
}

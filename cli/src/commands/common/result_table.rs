// SPDX-License-Identifier: GPL-2.0-only
//! The table of what came of changing groups, and the notes and advice below it: for every command that changes some.

use std::io::{self, Write};

use iommuctl_policy::{Route, TypeRequest};

use crate::change::outcome::{GroupResult, Interrupted, Member, Outcome};
use crate::terminal::table::Table;
use crate::terminal::{duration, style};

/// Writes a table of groups, each with the type that was asked for.
pub fn rows<'a>(
    w: &mut dyn Write,
    results: impl Iterator<Item = (&'a GroupResult, TypeRequest)>,
) -> io::Result<()> {
    let mut table = Table::new(["GROUP", "WAS", "IS", "ROUTE", "TIME", "RESULT", "DEVICES"]);
    let plain = |text: String| (text, style::PLAIN);
    for (result, request) in results {
        let (was, is) = (result.old_type.as_ref(), result.new_type.as_ref());
        let time = result.milliseconds.map(duration::milliseconds);
        table.row([
            plain(result.group.to_string()),
            (style::type_text(was).to_owned(), style::of_type(was)),
            (style::type_text(is).to_owned(), style::of_type(is)),
            plain(result.route.map_or("-".to_owned(), |r| r.to_string())),
            plain(time.unwrap_or_else(|| "-".to_owned())),
            outcome(result, request),
            plain(devices(result)),
        ]);
    }
    table.write(w)
}

/// Writes what was interrupted, and for how long.
pub fn interruptions<'a>(
    w: &mut dyn Write,
    results: impl Iterator<Item = &'a GroupResult>,
) -> io::Result<()> {
    let all: Vec<&Interrupted> = results.flat_map(|r| &r.interrupted).collect();
    if all.is_empty() {
        return Ok(());
    }
    let mut table = Table::new(["DEVICE", "DRIVER", "INTERRUPTED FOR", "NOW"]);
    let plain = |text: &str| (text.to_owned(), style::PLAIN);
    for one in all {
        let time = one.milliseconds.map(duration::milliseconds);
        table.row([
            plain(&one.device),
            plain(&one.driver),
            time.map_or(("-".to_owned(), style::BAD), |t| plain(&t)),
            match &one.driver_now {
                Some(driver) => (format!("bound to {driver}"), style::GOOD),
                None => ("not bound".to_owned(), style::BAD),
            },
        ]);
    }
    writeln!(w)?;
    table.write(w)
}

/// How it ended for a group, in a word or two.
pub fn outcome(result: &GroupResult, request: TypeRequest) -> (String, anstyle::Style) {
    match result.outcome {
        // `auto` is done even if the kernel chooses what it was.
        Outcome::Unchanged if !result.interrupted.is_empty() => {
            ("as it was".to_owned(), style::GOOD)
        }
        Outcome::Unchanged => {
            let kind = style::type_text(result.new_type.as_ref());
            (format!("already {kind}"), style::GOOD)
        }
        Outcome::Changed => ("changed".to_owned(), style::GOOD),
        Outcome::Planned => (format!("would become {request}"), style::PLAIN),
        Outcome::Refused => ("refused".to_owned(), style::WARN),
        Outcome::Stopped => ("stopped".to_owned(), style::WARN),
        Outcome::Failed => ("failed".to_owned(), style::BAD),
        Outcome::TimedOut => ("timed out".to_owned(), style::BAD),
    }
}

/// The devices of a group, each with its driver.
pub fn devices(result: &GroupResult) -> String {
    let name = |m: &Member| match &m.driver {
        Some(driver) => format!("{} ({driver})", m.name),
        None => m.name.clone(),
    };
    let names: Vec<String> = result.devices.iter().map(name).collect();
    names.join(", ")
}

/// What is worth knowing about a rebind that went well, if there is anything.
pub fn notes(result: &GroupResult) -> Option<String> {
    let rebound = result.route == Some(Route::Rebind);
    let ended = matches!(result.outcome, Outcome::Changed | Outcome::Unchanged);
    let notes = result.message.as_ref().filter(|_| rebound && ended)?;
    Some(format!("group {}: {notes}", result.group))
}

/// The advice for all groups, each line once: many groups are refused for the same reason.
pub fn advice<'a>(results: impl IntoIterator<Item = &'a GroupResult>) -> Vec<&'a str> {
    let mut lines: Vec<&str> = Vec::new();
    for line in results.into_iter().flat_map(|r| &r.advice) {
        if !lines.contains(&line.as_str()) {
            lines.push(line);
        }
    }
    lines
}

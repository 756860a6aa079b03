// SPDX-License-Identifier: GPL-2.0-only
//! The output of `recover`: one row for each device of an interrupted change.

use std::io::{self, Write};

use crate::commands::recover::{Interrupted, RecoverReport, Recovered, RecoveredDevice};
use crate::terminal::style;
use crate::terminal::table::Table;

/// Writes the table.
pub fn write(w: &mut dyn Write, report: &RecoverReport) -> io::Result<()> {
    if report.groups.is_empty() {
        return writeln!(w, "Nothing was left behind.");
    }
    let mut table = Table::new(["GROUP", "TYPE", "DEVICE", "DRIVER", "RESULT"]);
    let plain = |text: &str| (text.to_owned(), style::PLAIN);
    for group in &report.groups {
        let kind = group.domain_type.as_ref();
        let mut id = plain(&group.group.to_string());
        let mut kind = (style::type_text(kind).to_owned(), style::of_type(kind));
        if group.devices.is_empty() {
            table.row([
                id,
                kind,
                plain("-"),
                plain("-"),
                whole(group, report.dry_run),
            ]);
            continue;
        }
        for device in &group.devices {
            table.row([
                std::mem::replace(&mut id, plain("")),
                std::mem::replace(&mut kind, plain("")),
                plain(&device.name),
                plain(&device.driver),
                result(device, report.dry_run),
            ]);
        }
    }
    table.write(w)
}

fn whole(group: &Recovered, dry_run: bool) -> (String, anstyle::Style) {
    let message = group.message.as_deref();
    if let (Interrupted::Bench, true, Some(words)) = (group.interrupted, group.done, message) {
        return (words.to_owned(), style::GOOD);
    }
    if let (Interrupted::Bench, true, Some(old)) = (group.interrupted, dry_run, &group.old_type) {
        return match group.request {
            Some(_) => (format!("would become {old} again"), style::PLAIN),
            None => ("nothing had been done".to_owned(), style::GOOD),
        };
    }
    if group.done {
        ("nothing had been done".to_owned(), style::GOOD)
    } else {
        ("left alone".to_owned(), style::WARN)
    }
}

fn result(device: &RecoveredDevice, dry_run: bool) -> (String, anstyle::Style) {
    let is_bound = |driver: &Option<String>| driver.as_ref() == Some(&device.driver);
    let (text, style) = match &device.driver_now {
        _ if device.gone => ("is gone", style::WARN),
        now if is_bound(now) && is_bound(&device.driver_before) => ("is bound", style::GOOD),
        now if is_bound(now) => ("bound again", style::GOOD),
        Some(other) => return (format!("is bound to {other}"), style::WARN),
        None if dry_run => ("would be bound", style::PLAIN),
        None => ("not bound", style::BAD),
    };
    (text.to_owned(), style)
}

// SPDX-License-Identifier: GPL-2.0-only
//! The output of `list`: one row for each device, under its group.

use std::io::{self, Write};

use crate::commands::common::group_report::DeviceReport;
use crate::commands::list::ListReport;
use crate::terminal::style;
use crate::terminal::table::Table;

/// Writes the table.
pub fn write(w: &mut dyn Write, report: &ListReport) -> io::Result<()> {
    if report.groups.is_empty() {
        return writeln!(w, "No group matches.");
    }
    let mut table = Table::new(["GROUP", "TYPE", "DEVICE", "DRIVER", "EXTERNAL", "NAME"]);
    let plain = |text: &str| (text.to_owned(), style::PLAIN);
    for group in &report.groups {
        let kind = group.domain_type.as_ref();
        let mut id = plain(&group.group.to_string());
        let mut kind = (style::type_text(kind).to_owned(), style::of_type(kind));
        if group.devices.is_empty() {
            let none = ("(no devices)".to_owned(), style::DIM);
            table.row([id, kind, none, plain(""), plain(""), plain("")]);
            continue;
        }
        for device in &group.devices {
            let driver = device.driver.as_deref();
            table.row([
                std::mem::replace(&mut id, plain("")),
                std::mem::replace(&mut kind, plain("")),
                plain(&device.name),
                driver.map_or(("-".to_owned(), style::DIM), plain),
                external(device),
                plain(&describe(device)),
            ]);
        }
    }
    table.write(w)
}

/// Whether a device can be plugged in from outside.
pub fn external(device: &DeviceReport) -> (String, anstyle::Style) {
    if device.external {
        ("yes".to_owned(), style::WARN)
    } else {
        ("no".to_owned(), style::PLAIN)
    }
}

/// The best name there is: from the database, or else the numbers it would be found by.
pub fn describe(device: &DeviceReport) -> String {
    match (&device.description, &device.vendor, &device.model) {
        (Some(text), _, _) => text.clone(),
        (None, Some(vendor), Some(model)) => format!("[{}:{}]", vendor.id, model.id),
        _ => String::new(),
    }
}

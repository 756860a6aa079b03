// SPDX-License-Identifier: GPL-2.0-only
//! The output of `show`: a paragraph for each group.

use std::io::{self, Write};

use super::list::describe;
use crate::commands::common::group_report::DeviceReport;
use crate::commands::show::{Change, ShowGroup, ShowReport};
use crate::terminal::style;

/// Writes everything.
pub fn write(w: &mut dyn Write, report: &ShowReport) -> io::Result<()> {
    for (n, group) in report.groups.iter().enumerate() {
        if n > 0 {
            writeln!(w)?;
        }
        write_group(w, group)?;
    }
    Ok(())
}

fn write_group(w: &mut dyn Write, show: &ShowGroup) -> io::Result<()> {
    let (head, group) = (style::HEADING, &show.group);
    let kind = group.domain_type.as_ref();
    let (text, paint) = (style::type_text(kind), style::of_type(kind));
    write!(w, "{head}Group {}{head:#}", group.group)?;
    if let Some(name) = &group.name {
        write!(w, " ({name})")?;
    }
    writeln!(w, ": {paint}{text}{paint:#}")?;
    if group.devices.is_empty() {
        writeln!(w, "  no devices")?;
    }
    for device in &group.devices {
        write_device(w, device)?;
    }
    if !show.reserved_regions.is_empty() {
        writeln!(w, "  {head}reserved regions{head:#}")?;
        for region in &show.reserved_regions {
            writeln!(
                w,
                "    {:#018x}-{:#018x}  {}",
                region.start, region.end, region.kind
            )?;
        }
    }
    writeln!(w, "  {head}changes{head:#}")?;
    for change in &show.changes {
        write_change(w, change)?;
    }
    Ok(())
}

fn write_device(w: &mut dyn Write, device: &DeviceReport) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "  {head}{}{head:#}  {}", device.name, describe(device))?;
    let mut field = |name: &str, value: &str| writeln!(w, "    {name:<10} {value}");
    if let (Some(vendor), Some(model)) = (&device.vendor, &device.model) {
        let mut ids = format!("{}:{}", vendor.id, model.id);
        if let (Some(vendor), Some(model)) = (device.subsystem_vendor, device.subsystem_device) {
            ids = format!("{ids}, subsystem {vendor}:{model}");
        }
        field("ids", &ids)?;
    }
    if let Some(class) = &device.class {
        let name = class.name.as_deref();
        let name = name.map(|n| format!(" ({n})")).unwrap_or_default();
        field("class", &format!("{}{name}", class.id))?;
    }
    if let Some(bus) = device.bus.as_deref().filter(|b| *b != "pci") {
        field("bus", bus)?;
    }
    let driver = device.driver.as_deref().unwrap_or("none");
    let manages = device.driver.is_some() && !device.holds_group;
    let note = if manages {
        " (does not hold the group)"
    } else {
        ""
    };
    field("driver", &format!("{driver}{note}"))?;
    field("external", if device.external { "yes" } else { "no" })?;
    if let Some(node) = device.numa_node {
        field("NUMA node", &node.to_string())?;
    }
    Ok(())
}

/// The width of "route module".
const VERDICT_WIDTH: usize = 12;

fn write_change(w: &mut dyn Write, change: &Change) -> io::Result<()> {
    let (paint, verdict) = match (change.possible, change.route) {
        (true, Some(route)) => (style::GOOD, format!("route {route}")),
        _ => (style::WARN, "not now".to_owned()),
    };
    let pad = VERDICT_WIDTH.saturating_sub(verdict.len());
    writeln!(
        w,
        "    to {:<8}  {paint}{verdict}{paint:#}{:pad$}  {}",
        change.request, "", change.why
    )?;
    for line in &change.advice {
        writeln!(w, "      - {line}")?;
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl show`: everything about one or more groups, and what could be changed about them.

use std::io::{self, Write};

use iommuctl_policy::{Group, ReservedRegion, Route, TypeRequest};
use serde::Serialize;

use super::common::group_report::{describe, DeviceReport, GroupReport};
use crate::change::route::{self, Allowed, Decision};
use crate::commands::common::args::TARGET_HELP;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::kernel::target::Target;
use crate::terminal::output::Output;
use crate::terminal::style;

/// Arguments of `show`.
#[derive(Debug, clap::Args)]
#[command(after_help = TARGET_HELP)]
pub struct ShowArgs {
    /// What to show: a group or something in it (see below)
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<Target>,
}

/// What `show` found.
#[derive(Debug, Serialize)]
pub struct ShowReport {
    pub module_loaded: bool,
    pub groups: Vec<ShowGroup>,
}

/// A group with everything about it.
#[derive(Debug, Serialize)]
pub struct ShowGroup {
    #[serde(flatten)]
    pub group: GroupReport,
    pub reserved_regions: Vec<ReservedRegion>,
    pub changes: Vec<Change>,
}

/// What would come of asking for a type.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The type.
    pub request: TypeRequest,
    /// Whether it would be done now.
    pub possible: bool,
    /// The route it takes; `None` if it would not be done.
    pub route: Option<Route>,
    /// The route it would need, if it would not be done and there is one.
    pub needs: Option<Route>,
    /// Why it takes this route, or why it would not be done.
    pub why: String,
    /// What would work instead, one line each.
    pub advice: Vec<String>,
}

/// Runs the command.
pub fn run(args: &ShowArgs, context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::default();
    let inventory = context.inventory(&mut problems)?;
    let wanted = context.resolve(&args.targets, &inventory)?;
    let names = context.names(&inventory);
    let module_loaded = context.sysfs.has_module();
    let groups = wanted.iter().filter_map(|id| inventory.group(*id));
    let groups = groups.map(|group| ShowGroup {
        group: GroupReport::new(group, &names),
        reserved_regions: context.sysfs.reserved_regions(group.id, &mut problems),
        changes: changes(group, module_loaded),
    });
    let report = ShowReport {
        module_loaded,
        groups: groups.collect(),
    };
    output.report(&report, write)?;
    output.warn_all(problems.iter());
    Ok(Exit::Done)
}

fn changes(group: &Group, module_loaded: bool) -> Vec<Change> {
    let change = |request| match route::decide(group, request, module_loaded, Allowed::Live) {
        Decision::Go { route, why } => Change {
            request,
            possible: true,
            route: Some(route),
            needs: None,
            why: why.to_owned(),
            advice: Vec::new(),
        },
        Decision::Refuse(refusal) => Change {
            request,
            possible: false,
            route: None,
            needs: refusal.needs,
            why: refusal.reason,
            advice: refusal.advice,
        },
    };
    TypeRequest::ALL.into_iter().map(change).collect()
}

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

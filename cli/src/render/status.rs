// SPDX-License-Identifier: GPL-2.0-only
//! The output of `status`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use iommuctl_policy::DomainType;

use crate::commands::recover::Interrupted;
use crate::commands::status::{Left, StatusReport};
use crate::kernel::sysfs::{Iommu, Module};
use crate::state::lockdown::InForce;
use crate::terminal::style;

/// Writes everything, one subject on each line.
pub fn write(w: &mut dyn Write, report: &StatusReport) -> io::Result<()> {
    let kernel = &report.kernel;
    field(w, "IOMMU", &iommus(&report.iommus))?;
    field(w, "kernel", kernel.release.as_deref().unwrap_or("unknown"))?;
    let parameters = match kernel.parameters.as_slice() {
        [] => "none about IOMMUs".to_owned(),
        words => words.join(" "),
    };
    field(w, "parameters", &parameters)?;
    let default = match (&kernel.default_type, &kernel.default_source) {
        (Some(kind), Some(source)) => format!("{kind} ({source})"),
        _ => {
            "unknown (no parameter says, and the kernel's configuration is not readable)".to_owned()
        }
    };
    field(w, "default", &default)?;
    field(w, "groups", &groups(report))?;
    if let Some(in_force) = &report.lockdown {
        field(w, "Lockdown", &lockdown(in_force))?;
    }
    for left in &report.interrupted {
        interrupted(w, left)?;
    }
    match &report.module {
        None => field(w, "iommu_live", "not loaded")?,
        Some(module) => write_module(w, module)?,
    }
    for line in &report.advice {
        writeln!(w, "  - {line}")?;
    }
    Ok(())
}

fn field(w: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "{head}{name:<10}{head:#}  {value}")
}

/// The drivers, each with the IOMMUs it drives.
pub fn iommus(iommus: &[Iommu]) -> String {
    let mut by_driver: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for iommu in iommus {
        let driver = iommu.driver.as_deref().unwrap_or("unknown driver");
        by_driver.entry(driver).or_default().push(&iommu.name);
    }
    let drivers = by_driver.iter();
    let text: Vec<String> = drivers
        .map(|(driver, names)| format!("{driver} ({})", names.join(", ")))
        .collect();
    if text.is_empty() {
        "none".to_owned()
    } else {
        text.join("; ")
    }
}

fn groups(report: &StatusReport) -> String {
    let by_type = report.groups.by_type.iter();
    let counts: Vec<String> = by_type.map(|(name, n)| format!("{n} {name}")).collect();
    match counts.as_slice() {
        [] => "none".to_owned(),
        counts => format!("{} ({})", report.groups.total, counts.join(", ")),
    }
}

/// Until when it lasts, and what it did.
fn lockdown(in_force: &InForce) -> String {
    let mut until = Vec::new();
    if in_force.standing {
        until.push("until `iommuctl release`".to_owned());
    }
    if !in_force.processes.is_empty() {
        let processes = in_force.processes.join(", ");
        until.push(format!("while a command runs (process {processes})"));
    }
    let groups = in_force.groups;
    format!(
        "in force {}; groups made strict: {groups}",
        until.join(" and ")
    )
}

/// What was interrupted, and how the group may be now. What `recover` can do about it is found out there.
fn interrupted(w: &mut dyn Write, left: &Left) -> io::Result<()> {
    let (name, what) = match left.interrupted {
        Interrupted::Rebind => (
            "rebind",
            "may be without its drivers; `iommuctl recover` sees to it".to_owned(),
        ),
        Interrupted::Bench => ("bench", after_bench(left)),
    };
    let (warn, group) = (style::WARN, left.group);
    let text = format!("{warn}interrupted{warn:#}; group {group} {what}");
    field(w, name, &text)
}

fn after_bench(left: &Left) -> String {
    let now = left.domain_type.as_ref().map(DomainType::as_str);
    match (left.old_type.as_deref(), now) {
        (Some(old), Some(now)) if old == now => {
            format!("is {now}, as it was; `iommuctl recover` clears away what was left")
        }
        (Some(old), Some(now)) => format!("was {old}, and is {now}; `iommuctl recover` sees to it"),
        (Some(old), None) => format!("was {old}; `iommuctl recover` sees to it"),
        (None, _) => "may not have its own type; `iommuctl recover` sees to it".to_owned(),
    }
}

fn write_module(w: &mut dyn Write, module: &Module) -> io::Result<()> {
    let version = module.version.as_deref().unwrap_or("of unknown version");
    let drivers = match module.drivers.as_slice() {
        [] => "unknown IOMMU drivers".to_owned(),
        names => names.join(", "),
    };
    field(w, "iommu_live", &format!("{version}, for {drivers}"))?;
    let width = module.counters.keys().map(String::len).max().unwrap_or(0);
    for (name, value) in &module.counters {
        writeln!(w, "{:12}{name:<width$}  {value}", "")?;
    }
    Ok(())
}

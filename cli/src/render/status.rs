// SPDX-License-Identifier: GPL-2.0-only
//! The output of `status`.

use std::collections::BTreeMap;
use std::io::{self, Write};

use super::style;
use crate::commands::status::StatusReport;
use crate::sysfs::{Iommu, Module};

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
fn iommus(iommus: &[Iommu]) -> String {
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

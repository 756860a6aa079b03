// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl list`: the groups and their devices.

use std::io::{self, Write};

use iommuctl_policy::{ClassFilter, Device, Group};
use serde::Serialize;

use super::common::group_report::{describe, external, GroupReport};
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::terminal::output::Output;
use crate::terminal::style;
use crate::terminal::table::Table;

/// What `type` can read (`iommu_group_show_type` in `drivers/iommu/iommu.c`).
const SHOWN_TYPES: [&str; 6] = [
    "DMA",
    "DMA-FQ",
    "identity",
    "blocked",
    "unmanaged",
    "unknown",
];

/// Arguments of `list`.
#[derive(Debug, Default, clap::Args)]
pub struct ListArgs {
    /// Only groups of this type, as the kernel shows it
    #[arg(long = "type", value_name = "TYPE", value_parser = SHOWN_TYPES, ignore_case = true)]
    pub domain_type: Option<String>,
    /// Only groups with a device that is bound to this driver
    #[arg(long, value_name = "DRIVER")]
    pub driver: Option<String>,
    /// Only groups with a device of this PCI class: a name such as network or nvme, or hexadecimal such as 02 or 0108
    #[arg(long, value_name = "CLASS")]
    pub class: Option<ClassFilter>,
}

/// What `list` found.
#[derive(Debug, Serialize)]
pub struct ListReport {
    pub groups: Vec<GroupReport>,
}

/// Runs the command.
pub fn run(args: &ListArgs, context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::default();
    let inventory = context.inventory(&mut problems)?;
    let names = context.names(&inventory);
    let wanted = inventory.groups().iter().filter(|g| matches(args, g));
    let report = ListReport {
        groups: wanted.map(|g| GroupReport::new(g, &names)).collect(),
    };
    output.report(&report, write)?;
    output.warn_all(problems.iter());
    Ok(Exit::Done)
}

/// Whether `group` passes the filters. A group passes by a device that passes all filters for devices; it is then shown
/// whole, since its devices share its type.
fn matches(args: &ListArgs, group: &Group) -> bool {
    let type_matches = args.domain_type.as_ref().is_none_or(|wanted| {
        let current = group.domain_type.as_ref();
        current.is_some_and(|t| t.as_str().eq_ignore_ascii_case(wanted))
    });
    let by_device = args.driver.is_some() || args.class.is_some();
    let device_matches = |device: &Device| {
        let driver = args.driver.as_ref();
        let class = args.class.as_ref();
        driver.is_none_or(|wanted| device.driver.as_ref() == Some(wanted))
            && class.is_none_or(|wanted| device.class.is_some_and(|c| wanted.matches(c)))
    };
    type_matches && (!by_device || group.devices.iter().any(device_matches))
}

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

// SPDX-License-Identifier: GPL-2.0-only
//! Makes the plan of a rebind from sysfs.

use iommuctl_policy::{Device, DomainType, Group, TypeRequest};

use super::journal_format::is_plain;
use super::plan::{Offers, Override, Plan, Subject};
use crate::kernel::sysfs::Sysfs;
use crate::sys::kernfs::KernFsError;

/// Plans to give `request` to `group`, with the drivers of `devices` unbound.
///
/// Only devices whose driver holds the group need to be unbound: a PCI Express port, for example, stays bound, and with it the
/// other devices behind it.
///
/// # Errors
///
/// [`KernFsError`], if a property of a device cannot be read. The rebind must not be started then: an unknown state cannot be
/// restored.
pub fn plan<'a>(
    sysfs: &Sysfs,
    group: &Group,
    old_type: &DomainType,
    request: TypeRequest,
    devices: impl Iterator<Item = &'a Device>,
) -> Result<Plan, KernFsError> {
    let subjects = devices
        .map(|device| subject(sysfs, device))
        .filter_map(Result::transpose)
        .collect::<Result<Vec<_>, _>>()?;
    Ok(Plan::new(group.id, request, old_type, subjects))
}

/// Plans one device; `None` if it has no driver.
fn subject(sysfs: &Sysfs, device: &Device) -> Result<Option<Subject>, KernFsError> {
    let (Some(bus), Some(driver)) = (&device.bus, &device.driver) else {
        return Ok(None);
    };
    for name in [&device.name, bus, driver] {
        if !is_plain(name) {
            return Err(KernFsError::NotText(sysfs.kernfs().display(&device.path)));
        }
    }
    let driver_override = match sysfs.driver_override(&device.path)? {
        None => Override::None,
        Some(None) => Override::Empty,
        Some(Some(name)) => Override::Driver(name),
    };
    Ok(Some(Subject {
        name: device.name.clone(),
        path: device.path.clone(),
        bus: bus.clone(),
        driver: driver.clone(),
        module: sysfs.driver_module(bus, driver)?,
        driver_override,
        offers: offers(sysfs, &device.path)?,
    }))
}

/// Counts what the device in the directory `path` offers now.
pub fn offers(sysfs: &Sysfs, path: &str) -> Result<Offers, KernFsError> {
    let blocks = sysfs.blocks()?;
    let interfaces = sysfs.interfaces()?;
    Ok(Offers {
        blocks: blocks.iter().filter(|o| o.is_below(path)).count(),
        interfaces: interfaces.iter().filter(|o| o.is_below(path)).count(),
    })
}

// SPDX-License-Identifier: GPL-2.0-only
//! Checks whether a driver can be unbound and bound again, and which other devices would go with it.

use iommuctl_policy::Device;

use super::{some_of, Check, CheckFinding, Inspector, Present};
use crate::sys::kernfs::KernFsError;

impl Inspector<'_> {
    pub(super) fn drivers(
        &self,
        devices: &[&Device],
        present: &Present,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let mut findings = Vec::new();
        for device in devices {
            let Some(driver) = &device.driver else {
                continue;
            };
            if let Some(message) = self.cannot_return(device, driver)? {
                findings.push(CheckFinding::new(Check::LeftBound, device, message));
            }
            let others = self.taken_along(device, present)?;
            if !others.is_empty() {
                let message = format!(
                    "{} ({driver}) has other devices behind it, which go with its driver: {}",
                    device.name,
                    some_of(&others)
                );
                findings.push(CheckFinding::new(Check::Others, device, message));
            }
        }
        Ok(findings)
    }

    /// The reason why a device would not get its driver back, if any.
    fn cannot_return(&self, device: &Device, driver: &str) -> Result<Option<String>, KernFsError> {
        let name = &device.name;
        let bus = device.bus.as_deref().unwrap_or_default();
        if !self.sysfs.has_bind_files(bus, driver)? {
            return Ok(Some(format!(
                "{name} ({driver}) cannot be unbound: its driver has no bind and unbind attributes"
            )));
        }
        match self.sysfs.driver_override(&device.path)?.flatten() {
            Some(other) if other != driver => Ok(Some(format!(
                "{name} ({driver}) could not be bound to {driver} again: its driver_override names {other}"
            ))),
            _ => Ok(None),
        }
    }

    /// The PCI devices below this one, and its virtual functions. Most bridge drivers leave the devices behind them alone; but
    /// an unbound bridge may stop forwarding DMA (`pci_disable_device`), and some drivers, such as `vmd`, remove their whole
    /// bus. Virtual functions are removed with their driver.
    fn taken_along(&self, device: &Device, present: &Present) -> Result<Vec<String>, KernFsError> {
        let kernfs = self.sysfs.kernfs();
        let mut others = Vec::new();
        for (name, path) in &present.pci {
            let below = path.strip_prefix(&device.path);
            if below.is_some_and(|rest| rest.starts_with('/')) {
                others.push(name.clone());
            }
        }
        let names = kernfs.names(&device.path)?.unwrap_or_default();
        for link in names.iter().filter(|name| name.starts_with("virtfn")) {
            others.extend(kernfs.link_name(&format!("{}/{link}", device.path))?);
        }
        Ok(others)
    }
}

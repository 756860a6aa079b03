// SPDX-License-Identifier: GPL-2.0-only
//! Checks whether a program, usually a virtual machine, has a device of a group open through VFIO. sysfs does not show that;
//! the open files of processes do.

use iommuctl_policy::{Device, Group};

use super::{Check, CheckFinding, Inspector};
use crate::sys::kernfs::KernFsError;

impl Inspector<'_> {
    /// The devices of `group` that a program has open.
    pub fn vfio(&self, group: &Group) -> Result<Vec<CheckFinding>, KernFsError> {
        let driven = |d: &&Device| d.driver.as_deref().is_some_and(|n| n.contains("vfio"));
        let mut findings = Vec::new();
        for device in group.devices.iter().filter(driven) {
            // Check the node of the group and that of each device (`Documentation/driver-api/vfio.rst`).
            let mut nodes = vec![
                format!("/dev/vfio/{}", group.id),
                format!("/dev/vfio/noiommu-{}", group.id),
            ];
            let own = self
                .sysfs
                .kernfs()
                .names(&format!("{}/vfio-dev", device.path))?;
            let own = own.unwrap_or_default().into_iter();
            nodes.extend(own.map(|name| format!("/dev/vfio/devices/{name}")));
            let open = self
                .proc
                .open_files(|path| nodes.iter().any(|n| n == path))?;
            if let Some(file) = open.first() {
                let message = format!(
                    "{} is in use through VFIO: process {} ({}) has {} open",
                    device.name, file.pid, file.command, file.path
                );
                findings.push(CheckFinding::new(Check::Vfio, device, message));
            }
        }
        Ok(findings)
    }
}

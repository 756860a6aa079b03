// SPDX-License-Identifier: GPL-2.0-only
//! Small values for the unit tests of several modules.

use iommuctl_policy::{Device, DomainType, Group, GroupId};
use tempfile::TempDir;

use crate::sys::private_dir::PrivateDir;

/// A `/run/iommuctl` of its own, and the folder that it goes with.
pub fn run_dir() -> (TempDir, PrivateDir) {
    let root = tempfile::tempdir().unwrap();
    let run = PrivateDir::make(Some(root.path())).unwrap();
    (root, run)
}

/// A group of PCI devices with the given names and drivers.
pub fn group(id: u32, domain_type: &str, devices: &[(&str, Option<&str>)]) -> Group {
    let device = |&(name, driver): &(&str, Option<&str>)| Device {
        name: name.to_owned(),
        path: format!("devices/pci0000:00/{name}"),
        bus: Some("pci".to_owned()),
        address: name.parse().ok(),
        vendor: None,
        device: None,
        subsystem_vendor: None,
        subsystem_device: None,
        class: None,
        driver: driver.map(str::to_owned),
        removable: None,
        numa_node: None,
        firmware: None,
        modalias: None,
    };
    Group {
        id: GroupId(id),
        name: None,
        domain_type: Some(DomainType::from_kernel(domain_type)),
        devices: devices.iter().map(device).collect(),
    }
}

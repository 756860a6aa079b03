// SPDX-License-Identifier: GPL-2.0-only
//! Groups and devices as they are reported: the model, with names from the PCI id database.

use iommuctl_policy::{Device, DomainType, Group, GroupId, PciAddress, PciClass, PciId, Removable};
use serde::Serialize;

use crate::kernel::pci_ids::PciNames;
use crate::terminal::style;

/// A number with its name.
#[derive(Debug, Serialize)]
pub struct Named<T> {
    /// The number.
    pub id: T,
    /// The name; `None` if the database does not know it.
    pub name: Option<String>,
}

/// A device.
#[derive(Debug, Serialize)]
pub struct DeviceReport {
    pub name: String,
    pub bus: Option<String>,
    pub address: Option<PciAddress>,
    pub vendor: Option<Named<PciId>>,
    pub model: Option<Named<PciId>>,
    pub subsystem_vendor: Option<PciId>,
    pub subsystem_device: Option<PciId>,
    pub class: Option<Named<PciClass>>,
    /// Vendor and model in one line.
    pub description: Option<String>,
    pub driver: Option<String>,
    /// Whether that driver keeps the kernel from replacing the group's domain.
    pub holds_group: bool,
    pub external: bool,
    pub removable: Option<Removable>,
    pub bridge: bool,
    pub numa_node: Option<u32>,
}

impl DeviceReport {
    fn new(device: &Device, names: &PciNames) -> Self {
        let named = |id, name: Option<&str>| Named {
            id,
            name: name.map(str::to_owned),
        };
        Self {
            name: device.name.clone(),
            bus: device.bus.clone(),
            address: device.address,
            vendor: device.vendor.map(|id| named(id, names.vendor(device))),
            model: device.device.map(|id| named(id, names.model(device))),
            subsystem_vendor: device.subsystem_vendor,
            subsystem_device: device.subsystem_device,
            class: device.class.map(|id| Named {
                id,
                name: names.class(id).map(str::to_owned),
            }),
            description: names.full(device),
            driver: device.driver.clone(),
            holds_group: device.holds_group(),
            external: device.is_external(),
            removable: device.removable,
            bridge: device.is_bridge(),
            numa_node: device.numa_node,
        }
    }
}

/// A group.
#[derive(Debug, Serialize)]
pub struct GroupReport {
    pub group: GroupId,
    pub name: Option<String>,
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    pub devices: Vec<DeviceReport>,
}

impl GroupReport {
    /// Reports `group`, with names from `names`.
    pub fn new(group: &Group, names: &PciNames) -> Self {
        let devices = group.devices.iter();
        Self {
            group: group.id,
            name: group.name.clone(),
            domain_type: group.domain_type.clone(),
            devices: devices.map(|d| DeviceReport::new(d, names)).collect(),
        }
    }
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

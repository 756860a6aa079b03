// SPDX-License-Identifier: GPL-2.0-only
//! Devices.

use std::fmt;

use serde::Serialize;

use crate::{PciAddress, PciClass, PciId};

/// Whether a person can take a device away from the machine without opening it.
///
/// From the `removable` attribute (`Documentation/ABI/testing/sysfs-devices-removable`). For PCI, the kernel says
/// `removable` of everything behind a port that firmware marked as external-facing, which is also when it treats a
/// device as untrusted (`pci_set_removable` and `set_pcie_untrusted` in `drivers/pci/probe.c`); `untrusted` itself is
/// not visible in sysfs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Removable {
    /// A person can remove it: a Thunderbolt device, for example.
    Removable,
    /// It is part of the machine.
    Fixed,
    /// The kernel cannot tell.
    Unknown,
}

impl Removable {
    /// The kernel's word.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Removable => "removable",
            Self::Fixed => "fixed",
            Self::Unknown => "unknown",
        }
    }
}

impl fmt::Display for Removable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A device that sits in an IOMMU group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Device {
    /// Its name in sysfs, for example `0000:00:1f.2` or `fd5d0000.ethernet`.
    pub name: String,
    /// Its directory, relative to the root of sysfs.
    pub path: String,
    /// The bus it is on (`pci`, `platform`, …).
    pub bus: Option<String>,
    /// Its PCI address, if it is a PCI device.
    pub address: Option<PciAddress>,
    /// PCI vendor id.
    pub vendor: Option<PciId>,
    /// PCI device id.
    pub device: Option<PciId>,
    /// PCI subsystem vendor id.
    pub subsystem_vendor: Option<PciId>,
    /// PCI subsystem device id.
    pub subsystem_device: Option<PciId>,
    /// PCI class code.
    pub class: Option<PciClass>,
    /// The driver that is bound to it.
    pub driver: Option<String>,
    /// The kernel's word on whether it can be removed; `None` if it says nothing, which is usual for built-in devices.
    pub removable: Option<Removable>,
    /// The NUMA node it is nearest to; `None` if there is none (the kernel says -1).
    pub numa_node: Option<u32>,
    /// What firmware calls it: its ACPI path (`\_SB_.PCI0.RP05.PXSX`) or its path in the device tree (`/soc/pcie@1c00000`).
    /// Read for policies only; `None` elsewhere.
    pub firmware: Option<String>,
    /// What modules for it are looked up by (`pci:v00008086d…`). Read for policies only; `None` elsewhere.
    pub modalias: Option<String>,
}

/// Drivers that manage DMA ownership themselves (`.driver_managed_dma = true`), beside the VFIO family: being bound
/// to one of them does not count as the group being in use (`iommu_device_use_default_domain` in
/// `drivers/iommu/iommu.c`).
const DRIVER_MANAGED_DMA: [&str; 2] = ["pcieport", "pci-stub"];

impl Device {
    /// Whether it is known to be external to the machine. For PCI this is also how untrusted devices are recognised.
    #[must_use]
    pub fn is_external(&self) -> bool {
        self.removable == Some(Removable::Removable)
    }

    /// Whether it is a PCI bridge.
    #[must_use]
    pub fn is_bridge(&self) -> bool {
        self.class.is_some_and(PciClass::is_bridge)
    }

    /// Whether it is a kind of device that does DMA of its own. Bridges hand on the DMA of others, and memory controllers
    /// (base class 0x05, subclass 0x00) have none.
    #[must_use]
    pub fn does_dma(&self) -> bool {
        let is_memory = |c: PciClass| (c.base(), c.sub()) == (0x05, 0x00);
        !self.is_bridge() && self.class.is_none_or(|c| !is_memory(c))
    }

    /// Whether its driver keeps the kernel from replacing the domain of its group.
    ///
    /// A VFIO driver alone does not, but a virtual machine that has the device open does; sysfs does not show that.
    #[must_use]
    pub fn holds_group(&self) -> bool {
        self.driver
            .as_deref()
            .is_some_and(|d| !DRIVER_MANAGED_DMA.contains(&d) && !d.contains("vfio"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bound_to(driver: Option<&str>) -> Device {
        Device {
            name: "0000:00:01.0".into(),
            path: "devices/pci0000:00/0000:00:01.0".into(),
            bus: Some("pci".into()),
            address: "00:01.0".parse().ok(),
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
        }
    }

    #[test]
    fn only_drivers_of_the_dma_api_hold_a_group() {
        assert!(bound_to(Some("nvme")).holds_group());
        for driver in [
            None,
            Some("pcieport"),
            Some("pci-stub"),
            Some("vfio-pci"),
            Some("mlx5_vfio_pci"),
        ] {
            assert!(!bound_to(driver).holds_group(), "{driver:?}");
        }
    }

    #[test]
    fn only_removable_is_external() {
        let mut device = bound_to(None);
        assert!(!device.is_external());
        device.removable = Some(Removable::Unknown);
        assert!(!device.is_external());
        device.removable = Some(Removable::Removable);
        assert!(device.is_external());
    }
}

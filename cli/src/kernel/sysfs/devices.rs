// SPDX-License-Identifier: GPL-2.0-only
//! Devices: reading their attributes, and finding the group behind any object in sysfs.

use std::collections::BTreeSet;
use std::str::FromStr;

use iommuctl_policy::{Device, GroupId, Removable};

use super::{Problems, Sysfs};
use crate::sys::kernfs::KernFsError;

/// How many layers of stacked devices (dm on md on loop on …) are followed. The kernel allows eight.
const MAX_LAYERS: usize = 16;

/// An object that is not stacked on others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bottom {
    /// Its directory, relative to the root of sysfs.
    pub path: String,
    /// The group of the device it belongs to; `None` if that device has none.
    pub group: Option<GroupId>,
}

impl Bottom {
    /// Whether it belongs to the device in the directory `device`, or to a descendant of it.
    #[must_use]
    pub fn is_below(&self, device: &str) -> bool {
        let rest = self.path.strip_prefix(device);
        rest.is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
    }
}

impl Sysfs {
    /// The device in the directory `path` (relative to the root).
    ///
    /// Sources: `Documentation/ABI/testing/sysfs-bus-pci`, `sysfs-devices-removable`, `sysfs-bus-pci` (`numa_node`).
    pub(super) fn device(&self, name: &str, path: &str, problems: &mut Problems) -> Device {
        let folder = problems.note(self.kernfs.dir(path));
        let folder = folder.as_ref();
        let mut text = |name: &str| problems.note(folder.map_or(Ok(None), |f| f.text(name)));
        let vendor = number(text("vendor"));
        let device = number(text("device"));
        let subsystem_vendor = number(text("subsystem_vendor"));
        let subsystem_device = number(text("subsystem_device"));
        let class = number(text("class"));
        let numa_node = number(text("numa_node"));
        let removable = text("removable").map(|word| match word.as_str() {
            "removable" => Removable::Removable,
            "fixed" => Removable::Fixed,
            _ => Removable::Unknown,
        });
        let mut link = |name: &str| problems.note(folder.map_or(Ok(None), |f| f.link_name(name)));
        let bus = link("subsystem");
        let driver = link("driver");
        let is_pci = bus.as_deref() == Some("pci");
        Device {
            name: name.to_owned(),
            path: path.to_owned(),
            address: is_pci.then(|| name.parse().ok()).flatten(),
            // Skip other buses: they have attributes of these names with other meanings.
            vendor: vendor.filter(|_| is_pci),
            device: device.filter(|_| is_pci),
            subsystem_vendor: subsystem_vendor.filter(|_| is_pci),
            subsystem_device: subsystem_device.filter(|_| is_pci),
            class: class.filter(|_| is_pci),
            bus,
            driver,
            removable,
            numa_node,
            firmware: None,
            modalias: None,
        }
    }

    /// Reads the properties that only policies match: the firmware's name of the device, and its modalias.
    ///
    /// Sources: `Documentation/ABI/testing/sysfs-devices-firmware_node`, `sysfs-firmware-ofw`.
    pub fn identify(&self, device: &mut Device, problems: &mut Problems) {
        let Some(folder) = problems.note(self.kernfs.dir(&device.path)) else {
            return;
        };
        device.modalias = problems.note(folder.text("modalias"));
        let acpi = problems.note(folder.link("firmware_node"));
        let name = |node: String| self.kernfs.text(&format!("{node}/path"));
        device.firmware = acpi.and_then(|node| problems.note(name(node)));
        if device.firmware.is_none() {
            let node = problems.note(folder.link("of_node"));
            let base = "firmware/devicetree/base";
            device.firmware = node.and_then(|n| n.strip_prefix(base).map(str::to_owned));
        }
    }

    /// The groups behind the object in the directory `path`: a device, or something made of devices.
    pub fn groups_behind(&self, path: &str) -> Result<BTreeSet<GroupId>, KernFsError> {
        let bottoms = self.bottoms(path)?;
        Ok(bottoms.into_iter().filter_map(|b| b.group).collect())
    }

    /// The objects at the bottom of the stack of the object in the directory `path`.
    ///
    /// Walks up to the first device with an `iommu_group` link. Stacked block devices are followed through `slaves`,
    /// stacked network interfaces through `lower_*`, and the shared disk of NVMe multipath, which has no parent device,
    /// through the controllers of its subsystem.
    ///
    /// # Errors
    ///
    /// [`KernFsError`], if a link on the way cannot be read or leads out of sysfs.
    pub fn bottoms(&self, path: &str) -> Result<Vec<Bottom>, KernFsError> {
        let mut found = Vec::new();
        let mut layer = vec![path.to_owned()];
        for _ in 0..MAX_LAYERS {
            let mut below = Vec::new();
            for path in layer {
                let group = self.group_above(&path)?;
                let lower = match group {
                    Some(_) => Vec::new(),
                    None => self.lower_layer(&path)?,
                };
                if lower.is_empty() {
                    found.push(Bottom { path, group });
                }
                below.extend(lower);
            }
            below.sort();
            below.dedup();
            if below.is_empty() {
                break;
            }
            layer = below;
        }
        Ok(found)
    }

    /// The group of the device in the directory `path`; `None` if it is in none.
    pub fn group_of(&self, path: &str) -> Result<Option<GroupId>, KernFsError> {
        let group = self.kernfs.link_name(&format!("{path}/iommu_group"))?;
        Ok(group.and_then(|name| name.parse().ok()))
    }

    fn group_above(&self, path: &str) -> Result<Option<GroupId>, KernFsError> {
        for directory in ancestors(path) {
            if let Some(id) = self.group_of(directory)? {
                return Ok(Some(id));
            }
        }
        Ok(None)
    }

    /// What the object at `path` is made of.
    fn lower_layer(&self, path: &str) -> Result<Vec<String>, KernFsError> {
        let mut lower = Vec::new();
        // Look at the disk above a partition, which has no `slaves` of its own.
        for directory in ancestors(path) {
            let links = |prefix: &str, wanted: &dyn Fn(&str) -> bool| {
                let at = format!("{directory}{prefix}");
                let names = self.kernfs.names(&at)?.unwrap_or_default();
                let names = names.into_iter().filter(|name| wanted(name));
                names
                    .map(|name| self.kernfs.link(&format!("{at}/{name}")))
                    .filter_map(Result::transpose)
                    .collect::<Result<Vec<_>, _>>()
            };
            lower.extend(links("/slaves", &|_| true)?);
            lower.extend(links("", &|name| name.starts_with("lower_"))?);
            if directory.contains("/nvme-subsystem/") {
                lower.extend(links("", &is_nvme_controller)?);
            }
            if !lower.is_empty() {
                break;
            }
        }
        Ok(lower)
    }
}

/// `path`, its parent, and so on, without the root.
fn ancestors(path: &str) -> impl Iterator<Item = &str> {
    std::iter::successors(Some(path), |p| p.rsplit_once('/').map(|(parent, _)| parent))
}

/// Whether `name` is `nvme` followed by a number.
fn is_nvme_controller(name: &str) -> bool {
    name.strip_prefix("nvme")
        .is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()))
}

/// Parses a number; `None` if that fails: the kernel prints -1 for no NUMA node.
fn number<T: FromStr>(text: Option<String>) -> Option<T> {
    text.and_then(|t| t.parse().ok())
}

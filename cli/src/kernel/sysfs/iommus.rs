// SPDX-License-Identifier: GPL-2.0-only
//! `/sys/class/iommu` (`Documentation/ABI/testing/sysfs-class-iommu`).

use std::collections::BTreeMap;

use serde::Serialize;

use super::{Problems, Sysfs};
use crate::sys::kernfs::ATTRIBUTE_LIMIT;

const CLASS: &str = "class/iommu";

/// An IOMMU that a driver has registered.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Iommu {
    /// Its name: `dmar0`, `ivhd0`, `smmu3.0x0000000009050000`.
    pub name: String,
    /// The driver: `intel`, `amd`, or the name of the bound driver, such as `arm-smmu-v3`; `None` if it is not known.
    pub driver: Option<String>,
    /// How many devices it serves.
    pub devices: usize,
}

/// The ACPI table of Intel's IOMMUs, the offset of its flags, and the bit by which firmware opts in to protection from
/// external devices (`struct acpi_table_dmar` in `include/acpi/actbl1.h`, `dmar_platform_optin` in
/// `drivers/iommu/intel/dmar.c`).
const DMAR: (&str, usize, u8) = ("firmware/acpi/tables/DMAR", 37, 1 << 2);

impl Sysfs {
    /// Whether firmware opts in to protection from external devices; `None` if there is no such table, or it is not readable:
    /// only root can read it.
    #[must_use]
    pub fn platform_opt_in(&self) -> Option<bool> {
        let (path, offset, bit) = DMAR;
        let table = self.kernfs.bytes(path, ATTRIBUTE_LIMIT).ok().flatten()?;
        table.get(offset).map(|flags| flags & bit != 0)
    }

    /// The IOMMUs of the machine, sorted by name.
    pub fn iommus(&self, problems: &mut Problems) -> Vec<Iommu> {
        let names = problems.note(self.kernfs.names(CLASS)).unwrap_or_default();
        let mut iommus = Vec::new();
        for name in names {
            let Some(path) = problems.note(self.kernfs.link(&format!("{CLASS}/{name}"))) else {
                continue;
            };
            let devices = problems.note(self.kernfs.names(&format!("{path}/devices")));
            iommus.push(Iommu {
                driver: self.iommu_driver(&path, problems),
                devices: devices.map_or(0, |d| d.len()),
                name,
            });
        }
        iommus
    }

    /// The driver of the IOMMU that serves the device with this name; `None` if no IOMMU lists it.
    pub(super) fn iommu_driver_of(&self, device: &str, problems: &mut Problems) -> Option<String> {
        for name in problems.note(self.kernfs.names(CLASS))? {
            let path = problems.note(self.kernfs.link(&format!("{CLASS}/{name}")))?;
            let devices = problems.note(self.kernfs.names(&format!("{path}/devices")));
            if devices.is_some_and(|names| names.iter().any(|n| n == device)) {
                return self.iommu_driver(&path, problems);
            }
        }
        None
    }

    fn iommu_driver(&self, path: &str, problems: &mut Problems) -> Option<String> {
        // The two x86 drivers are not bound to a device, and have an attribute directory instead.
        for (directory, driver) in [("intel-iommu", "intel"), ("amd-iommu", "amd")] {
            if self.kernfs.is_directory(&format!("{path}/{directory}")) {
                return Some(driver.to_owned());
            }
        }
        let device = problems.note(self.kernfs.link(&format!("{path}/device")))?;
        problems.note(self.kernfs.link_name(&format!("{device}/driver")))
    }
}

/// The drivers, each with the IOMMUs it drives.
pub fn by_driver(iommus: &[Iommu]) -> String {
    let mut named: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    for iommu in iommus {
        let driver = iommu.driver.as_deref().unwrap_or("unknown driver");
        named.entry(driver).or_default().push(&iommu.name);
    }
    let drivers = named.iter();
    let text: Vec<String> = drivers
        .map(|(driver, names)| format!("{driver} ({})", names.join(", ")))
        .collect();
    if text.is_empty() {
        "none".to_owned()
    } else {
        text.join("; ")
    }
}

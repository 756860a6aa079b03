// SPDX-License-Identifier: GPL-2.0-only
//! Names of PCI devices, from the PCI id database of the system (`pci.ids`, pci.ids(5)).
//!
//! Read at run time from where distributions keep it, so that `update-pciids` takes effect. Only the requested names are kept.

use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use iommuctl_policy::{Device, Inventory, PciClass, PciId};

/// Where distributions keep the database. The first is where `update-pciids` puts a newer one.
const PLACES: [&str; 4] = [
    "/var/lib/pciutils/pci.ids",
    "/usr/share/misc/pci.ids",
    "/usr/share/hwdata/pci.ids",
    "/usr/share/pci.ids",
];

/// The largest database that is read, in bytes. It has 1.5 MB in 2026.
const DATABASE_LIMIT: u64 = 32 * 1024 * 1024;

/// The names of the devices of an inventory.
#[derive(Debug, Default)]
pub struct PciNames {
    vendors: HashMap<PciId, String>,
    devices: HashMap<(PciId, PciId), String>,
    subclasses: HashMap<(u8, u8), String>,
}

impl PciNames {
    /// Reads the names for `inventory` from `file`, or from the database of the system. A missing database is no error.
    #[must_use]
    pub fn load(file: Option<&Path>, inventory: &Inventory) -> Self {
        let places = PLACES.iter().map(PathBuf::from);
        let text = match file {
            Some(file) => read(file),
            None => places.into_iter().find_map(|p| read(&p)),
        };
        Self::parse(&text.unwrap_or_default(), inventory)
    }

    /// Extracts the names for `inventory` from the text of a database. Lines that cannot be parsed are skipped.
    #[must_use]
    pub fn parse(database: &str, inventory: &Inventory) -> Self {
        let devices = || inventory.groups().iter().flat_map(|g| &g.devices);
        let vendors: HashSet<PciId> = devices().filter_map(|d| d.vendor).collect();
        let wanted: HashSet<(PciId, PciId)> = devices()
            .filter_map(|d| Some((d.vendor?, d.device?)))
            .collect();
        let mut names = Self::default();
        let mut section = Section::Other;
        for line in database.lines() {
            // Skip the vendors that are not requested, which most lines are about.
            let skipped = match section {
                Section::Other => line.starts_with('\t'),
                Section::Vendor(_) | Section::Class(_) => line.starts_with("\t\t"),
            };
            if skipped || line.starts_with('#') || line.is_empty() {
                continue;
            }
            if let Some(line) = line.strip_prefix('\t') {
                match section {
                    Section::Vendor(vendor) => {
                        let entry = entry::<PciId>(line).map(|(id, name)| ((vendor, id), name));
                        if let Some((key, name)) = entry.filter(|(key, _)| wanted.contains(key)) {
                            names.devices.insert(key, clean(name));
                        }
                    }
                    Section::Class(base) => {
                        if let Some((sub, name)) = byte_entry(line) {
                            names.subclasses.insert((base, sub), clean(name));
                        }
                    }
                    Section::Other => {}
                }
                continue;
            }
            section = Section::Other;
            if let Some(rest) = line.strip_prefix("C ") {
                if let Some((base, _)) = byte_entry(rest) {
                    section = Section::Class(base);
                }
            } else if let Some((vendor, name)) = entry::<PciId>(line) {
                if vendors.contains(&vendor) {
                    section = Section::Vendor(vendor);
                    names.vendors.insert(vendor, clean(name));
                }
            }
        }
        names
    }

    /// The name of the vendor of `device`.
    #[must_use]
    pub fn vendor(&self, device: &Device) -> Option<&str> {
        self.vendors.get(&device.vendor?).map(String::as_str)
    }

    /// The name of the model of `device`.
    #[must_use]
    pub fn model(&self, device: &Device) -> Option<&str> {
        let key = (device.vendor?, device.device?);
        self.devices.get(&key).map(String::as_str)
    }

    /// The name of a class, for example "Non-Volatile memory controller".
    #[must_use]
    pub fn class(&self, class: PciClass) -> Option<&str> {
        let key = (class.base(), class.sub());
        self.subclasses.get(&key).map(String::as_str)
    }

    /// Vendor and model in one; `None` if the database knows neither.
    #[must_use]
    pub fn full(&self, device: &Device) -> Option<String> {
        let model = match (self.model(device), device.device) {
            (Some(name), _) => name.to_owned(),
            (None, Some(id)) => format!("device {id}"),
            (None, None) => return self.vendor(device).map(str::to_owned),
        };
        self.vendor(device)
            .map(|vendor| format!("{vendor} {model}"))
    }
}

/// The object that the indented lines belong to.
enum Section {
    Vendor(PciId),
    Class(u8),
    Other,
}

fn entry<T: std::str::FromStr>(line: &str) -> Option<(T, &str)> {
    let (id, name) = line.split_once("  ")?;
    (id.len() == 4).then_some(())?;
    Some((id.parse().ok()?, name))
}

fn byte_entry(line: &str) -> Option<(u8, &str)> {
    let (id, name) = line.split_once("  ")?;
    Some((u8::from_str_radix(id, 16).ok()?, name))
}

/// Removes from a name what could control a terminal: control characters and marks that change the direction of text.
fn clean(name: &str) -> String {
    let harmless = |c: &char| {
        !c.is_control()
            && !matches!(c, '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}')
    };
    name.trim().chars().filter(harmless).collect()
}

fn read(path: &Path) -> Option<String> {
    let file = File::open(path).ok()?;
    // Reserve room for the whole file, to avoid repeated reallocation.
    let size = file.metadata().ok()?.len().min(DATABASE_LIMIT);
    let mut bytes = Vec::with_capacity(usize::try_from(size).ok()?.saturating_add(1));
    file.take(DATABASE_LIMIT).read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8(bytes);
    Some(text.unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned()))
}

#[cfg(test)]
mod tests {
    use iommuctl_policy::{Group, GroupId};

    use super::*;

    const DATABASE: &str = "\
# comment
144d  Samsung Electronics Co Ltd
\ta808  NVMe SSD Controller\u{1b} SM981
\t\t144d a801  SSD 970 EVO
8086  Intel Corporation
\t15e3  Ethernet Connection I219-LM
C 01  Mass storage controller
\t08  Non-Volatile memory controller
\t\t02  NVM Express
";

    fn inventory(vendor: &str, device: &str) -> Inventory {
        let device = Device {
            name: "0000:01:00.0".into(),
            path: String::new(),
            bus: Some("pci".into()),
            address: "01:00.0".parse().ok(),
            vendor: vendor.parse().ok(),
            device: device.parse().ok(),
            subsystem_vendor: None,
            subsystem_device: None,
            class: "0x010802".parse().ok(),
            driver: None,
            removable: None,
            numa_node: None,
            firmware: None,
            modalias: None,
        };
        Inventory::new(vec![Group {
            id: GroupId(1),
            name: None,
            domain_type: None,
            devices: vec![device],
        }])
    }

    fn full(vendor: &str, device: &str) -> Option<String> {
        let inventory = inventory(vendor, device);
        let names = PciNames::parse(DATABASE, &inventory);
        names.full(&inventory.groups()[0].devices[0])
    }

    #[test]
    fn names_are_found_and_cleaned() {
        assert_eq!(
            full("144d", "a808").as_deref(),
            Some("Samsung Electronics Co Ltd NVMe SSD Controller SM981")
        );
        assert_eq!(
            full("8086", "ffff").as_deref(),
            Some("Intel Corporation device ffff")
        );
        assert_eq!(full("1234", "a808"), None);
    }

    #[test]
    fn classes_have_names() {
        let inventory = inventory("144d", "a808");
        let names = PciNames::parse(DATABASE, &inventory);
        let class = "010802".parse().unwrap();
        assert_eq!(names.class(class), Some("Non-Volatile memory controller"));
    }

    #[test]
    fn rubbish_is_skipped() {
        let inventory = inventory("144d", "a808");
        for text in [
            "\t",
            "C ",
            "C zz  x",
            "144d",
            "\ta808  no vendor above",
            "\u{fffd}\n\t\n",
        ] {
            let names = PciNames::parse(text, &inventory);
            assert_eq!(
                names.full(&inventory.groups()[0].devices[0]),
                None,
                "{text:?}"
            );
        }
    }
}

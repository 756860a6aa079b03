// SPDX-License-Identifier: GPL-2.0-only
//! Machines that are made of files: a sysfs with as many groups as are wanted, a PCI id database, and a policy.
//!
//! Every tenth group has two devices, the others one. What many devices have in common is one file with many names, so
//! that ten thousand groups are made in seconds and take little room.

use std::collections::HashMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use super::pci_ids::database;

/// Devices below a port, and ports below a host bridge.
const PER_PORT: usize = 32;
const PORTS: usize = 248;
/// Devices that one IOMMU serves.
const PER_IOMMU: usize = 2048;

/// Vendor, device, class and driver of what is commonly found.
pub const MODELS: [(&str, &str, &str, &str); 6] = [
    ("0x144d", "0xa808", "0x010802", "nvme"),
    ("0x8086", "0x1572", "0x020000", "i40e"),
    ("0x15b3", "0x1017", "0x020000", "mlx5_core"),
    ("0x8086", "0xa12f", "0x0c0330", "xhci_hcd"),
    ("0x1a03", "0x2000", "0x030000", "ast"),
    ("0x8086", "0x2f28", "0x088000", ""),
];

/// A policy as people have them.
const POLICY: &str = "\
version: 1
rules:
  - { name: external devices stay strict, match: { external: true }, type: DMA }
  - { name: the management controller is strict, match: { class: vga, vendor: \"1a03\" }, type: DMA }
  - name: disks that were tested are fast
    match: { class: nvme, vendor: [\"144d\", \"8086\"], external: false }
    type: DMA-FQ
    on_failure: warn
  - { name: other disks are strict, match: { class: nvme }, type: DMA }
  - { name: network is fast, match: { class: network, driver: [i40e, mlx5_core] }, type: DMA-FQ }
  - { name: one slot, match: { address: \"0000:03:1f.0\" }, type: DMA }
  - { name: what firmware calls internal, match: { removable: fixed, bus: pci }, type: DMA-FQ }
";

/// A machine that is made of files.
#[derive(Clone, Debug)]
pub struct Tree {
    /// How many groups it has.
    pub groups: usize,
    folder: PathBuf,
}

impl Tree {
    /// Makes one with so many groups in `folder`, which is there and empty.
    ///
    /// # Errors
    /// When a file cannot be made.
    pub fn make(folder: &Path, groups: usize) -> Result<Self> {
        let tree = Self {
            groups,
            folder: folder.to_owned(),
        };
        let mut maker = Maker {
            sysfs: tree.sysfs(),
            files: HashMap::new(),
        };
        let mut device = 0;
        for group in 0..groups {
            let members = if group % 10 == 9 { 2 } else { 1 };
            maker.group(group, device..device + members)?;
            device += members;
        }
        maker.module()?;
        write(&tree.database(), &database())?;
        write(&tree.policy(), POLICY)?;
        fs::create_dir_all(tree.root())
            .with_context(|| format!("cannot make {}", tree.root().display()))?;
        Ok(tree)
    }

    /// What stands for `/sys`.
    pub fn sysfs(&self) -> PathBuf {
        self.folder.join("sys")
    }

    /// What stands for `/`: nothing is configured there.
    pub fn root(&self) -> PathBuf {
        self.folder.join("root")
    }

    /// The PCI id database.
    pub fn database(&self) -> PathBuf {
        self.folder.join("pci.ids")
    }

    /// The policy.
    pub fn policy(&self) -> PathBuf {
        self.folder.join("policy.yaml")
    }

    /// How many devices there are in all groups.
    pub fn devices(&self) -> usize {
        self.groups + self.groups / 10
    }
}

/// Where a device is: the name, and the folder it is in.
fn place(device: usize) -> (String, String) {
    let (bus, slot) = (device / PER_PORT, device % PER_PORT);
    let (domain, port) = (bus / PORTS, bus % PORTS);
    let name = format!("{domain:04x}:{:02x}:{slot:02x}.0", port + 1);
    let above = format!(
        "devices/pci{domain:04x}:00/{domain:04x}:00:{:02x}.{}",
        port / 8,
        port % 8
    );
    (name, above)
}

struct Maker {
    sysfs: PathBuf,
    files: HashMap<String, PathBuf>,
}

impl Maker {
    fn group(&mut self, group: usize, devices: std::ops::Range<usize>) -> Result<()> {
        let at = format!("kernel/iommu_groups/{group}");
        // Devices that can be plugged in are strict already, and of the others every fourth group.
        let strict = group % 50 == 17 || group % 4 == 0;
        self.file(
            &format!("{at}/type"),
            if strict { "DMA\n" } else { "DMA-FQ\n" },
        )?;
        let reserved = "0x00000000fee00000 0x00000000feefffff msi\n";
        self.file(&format!("{at}/reserved_regions"), reserved)?;
        for device in devices {
            let (name, above) = place(device);
            let path = format!("{above}/{name}");
            self.device(&path, device, group)?;
            let up = "../../../..";
            self.link(&format!("{at}/devices/{name}"), &format!("{up}/{path}"))?;
            self.link(
                &format!("bus/pci/devices/{name}"),
                &format!("../../../{path}"),
            )?;
            let iommu = format!("devices/virtual/iommu/dmar{}", device / PER_IOMMU);
            if device % PER_IOMMU == 0 {
                self.file(&format!("{iommu}/intel-iommu/version"), "1:0\n")?;
                let link = format!("class/iommu/dmar{}", device / PER_IOMMU);
                self.link(&link, &format!("../../{iommu}"))?;
            }
            self.link(
                &format!("{iommu}/devices/{name}"),
                &format!("../../../../../{path}"),
            )?;
        }
        Ok(())
    }

    fn device(&mut self, path: &str, device: usize, group: usize) -> Result<()> {
        let Some((vendor, model, class, driver)) = MODELS.get(device % MODELS.len()) else {
            return Ok(());
        };
        let removable = if group % 50 == 17 {
            "removable"
        } else {
            "fixed"
        };
        let modalias = format!(
            "pci:v0000{vendor}d0000{model}sv0000{vendor}sd00000001bc{}sc{}i{}",
            &class[2..4],
            &class[4..6],
            &class[6..8],
            vendor = vendor[2..].to_uppercase(),
            model = model[2..].to_uppercase(),
        );
        let attributes = [
            ("vendor", *vendor),
            ("device", model),
            ("subsystem_vendor", vendor),
            ("subsystem_device", "0x0001"),
            ("class", class),
            ("revision", "0x01"),
            ("numa_node", if device % 2 == 0 { "0" } else { "1" }),
            ("removable", removable),
            ("modalias", &modalias),
            ("driver_override", "(null)"),
        ];
        for (name, text) in attributes {
            self.file(&format!("{path}/{name}"), &format!("{text}\n"))?;
        }
        let up = "../../../..";
        self.link(&format!("{path}/subsystem"), &format!("{up}/bus/pci"))?;
        self.link(
            &format!("{path}/iommu_group"),
            &format!("{up}/kernel/iommu_groups/{group}"),
        )?;
        if !driver.is_empty() {
            let target = format!("{up}/bus/pci/drivers/{driver}");
            self.link(&format!("{path}/driver"), &target)?;
            self.folder(&format!("bus/pci/drivers/{driver}"))?;
        }
        Ok(())
    }

    /// The module is loaded, so that a plan has a route for everything.
    fn module(&mut self) -> Result<()> {
        self.file("kernel/iommu_live/version", "0.1.0\n")?;
        self.file("kernel/iommu_live/drivers", "intel\n")?;
        self.file("kernel/iommu_live/switches", "0\n")
    }

    fn folder(&self, path: &str) -> Result<()> {
        let path = self.sysfs.join(path);
        fs::create_dir_all(&path).with_context(|| format!("cannot make {}", path.display()))
    }

    fn above(&self, path: &str) -> Result<PathBuf> {
        if let Some((folder, _)) = path.rsplit_once('/') {
            self.folder(folder)?;
        }
        Ok(self.sysfs.join(path))
    }

    fn file(&mut self, path: &str, text: &str) -> Result<()> {
        let path = self.above(path)?;
        if let Some(same) = self.files.get(text) {
            if fs::hard_link(same, &path).is_ok() {
                return Ok(());
            }
            // A file can have only so many names: begin another.
        }
        write(&path, text)?;
        self.files.insert(text.to_owned(), path);
        Ok(())
    }

    fn link(&self, path: &str, target: &str) -> Result<()> {
        let path = self.above(path)?;
        symlink(target, &path).with_context(|| format!("cannot make the link {}", path.display()))
    }
}

fn write(path: &Path, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tree_has_what_a_machine_has() {
        let folder = tempfile::tempdir().unwrap();
        let tree = Tree::make(folder.path(), 20).unwrap();
        let groups = tree.sysfs().join("kernel/iommu_groups");
        assert_eq!(fs::read_dir(&groups).unwrap().count(), 20);
        let members = |group: u32| {
            let devices = groups.join(format!("{group}/devices"));
            let found = fs::read_dir(devices).unwrap();
            found.map(|entry| entry.unwrap().path()).collect::<Vec<_>>()
        };
        let all: Vec<_> = (0..20).flat_map(members).collect();
        assert_eq!(all.len(), tree.devices());
        for device in all {
            let class = fs::read_to_string(device.join("class")).unwrap();
            assert!(class.starts_with("0x"), "{class}");
            assert!(device.join("subsystem").exists() && device.join("iommu_group/type").exists());
            let name = device.file_name().unwrap();
            assert!(tree.sysfs().join("bus/pci/devices").join(name).exists());
        }
        assert!(tree.sysfs().join("class/iommu/dmar0/devices").is_dir());
    }

    #[test]
    fn places_are_different() {
        let mut places: Vec<_> = (0..30_000).map(place).collect();
        places.sort();
        places.dedup();
        assert_eq!(places.len(), 30_000);
        assert_eq!(
            place(0),
            (
                "0000:01:00.0".into(),
                "devices/pci0000:00/0000:00:00.0".into()
            )
        );
    }
}

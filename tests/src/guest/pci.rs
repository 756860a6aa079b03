// SPDX-License-Identifier: GPL-2.0-only
//! The devices of the machine as sysfs shows them, read without iommuctl's own code: the two must agree.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use anyhow::{bail, Context as _, Result};

/// The first disk.
pub const DISK: &str = "0000:00:03.0";
/// The second disk.
pub const DISK_TWO: &str = "0000:00:04.0";
/// The network card.
pub const NETWORK: &str = "0000:00:05.0";
/// The oracle's card.
pub const ORACLE: &str = "0000:00:06.0";
/// What it is in messages of the kernel: older ones leave the domain out, and virtio-iommu has a number (`drivers/acpi/viot.c`).
pub const ORACLE_IN_MESSAGES: [&str; 2] = ["00:06.0", " EP 48 "];
/// The port that the firmware of one machine calls external.
pub const PORT: &str = "0000:00:07.0";
/// The disk of the two devices that one machine has in one group.
pub const PAIR_DISK: &str = "0000:00:08.0";
/// The disk that one machine has that keeps translations of its own.
pub const TRANSLATING: &str = "0000:01:00.0";
/// The network card beside it.
pub const PAIR_CARD: &str = "0000:00:08.1";

/// Long enough for a driver to probe two dozen disks, with checks and under emulation.
const PROBE: Duration = Duration::from_secs(120);

/// A device's folder.
pub fn folder(address: &str) -> PathBuf {
    Path::new("/sys/bus/pci/devices").join(address)
}

/// The number of a device's group.
///
/// # Errors
/// When it has none.
pub fn group(address: &str) -> Result<u32> {
    let link = folder(address).join("iommu_group");
    let target = std::fs::read_link(&link)
        .with_context(|| format!("{address} is in no group: {}", link.display()))?;
    let name = target
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    name.parse()
        .with_context(|| format!("`{name}` is no group number"))
}

/// Where the type of a group is read and written.
pub fn type_file(group: u32) -> PathBuf {
    PathBuf::from(format!("/sys/kernel/iommu_groups/{group}/type"))
}

/// What a group's `type` reads.
///
/// # Errors
/// When it cannot be read.
pub fn type_of(group: u32) -> Result<String> {
    let path = type_file(group);
    let text = std::fs::read_to_string(&path)
        .with_context(|| format!("cannot read {}", path.display()))?;
    Ok(text.trim().to_owned())
}

/// Writes a group's `type` as `echo` does: one write, and its errno.
///
/// # Errors
/// What the kernel answers.
pub fn write_type(group: u32, text: &str) -> std::io::Result<()> {
    let mut file = OpenOptions::new().write(true).open(type_file(group))?;
    file.write_all(format!("{text}\n").as_bytes())
}

/// Makes sure that a group reads `wanted`.
///
/// # Errors
/// When it reads something else.
pub fn expect_type(group: u32, wanted: &str) -> Result<String> {
    let found = type_of(group)?;
    if found != wanted {
        bail!("group {group} reads {found}, not {wanted}");
    }
    Ok(format!("group {group} reads {found}"))
}

/// The driver a device is bound to.
pub fn driver(address: &str) -> Option<String> {
    let target = std::fs::read_link(folder(address).join("driver")).ok()?;
    Some(target.file_name()?.to_string_lossy().into_owned())
}

/// Gives a device to another driver; to the one it belongs to, if `driver` is empty.
///
/// # Errors
/// When it does not let go of its driver, or the other one does not take it.
pub fn rebind(address: &str, driver: &str) -> Result<()> {
    let folder = folder(address);
    let write = |path: &Path, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write to {}", path.display()))
    };
    write(&folder.join("driver_override"), &format!("{driver}\n"))?;
    if folder.join("driver").exists() {
        write(&folder.join("driver/unbind"), address)?;
    }
    write(Path::new("/sys/bus/pci/drivers_probe"), address)
}

/// The block device of an NVMe disk, such as `nvme0n1`; waits until it is there.
///
/// # Errors
/// When it does not appear.
pub fn block_device(address: &str) -> Result<String> {
    let begin = Instant::now();
    while begin.elapsed() < PROBE {
        let entries = std::fs::read_dir("/sys/block").context("cannot read /sys/block")?;
        for name in entries
            .flatten()
            .map(|entry| entry.file_name().to_string_lossy().into_owned())
        {
            let device = Path::new("/sys/block")
                .join(&name)
                .canonicalize()
                .unwrap_or_default();
            let node = Path::new("/dev").join(&name);
            if device.components().any(|part| part.as_os_str() == address) && node.exists() {
                return Ok(name);
            }
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    bail!("no block device of {address} appeared in {PROBE:?}")
}

/// The network interface of a device.
///
/// # Errors
/// When it has none.
pub fn interface(address: &str) -> Result<String> {
    let path = folder(address).join("net");
    let mut entries =
        std::fs::read_dir(&path).with_context(|| format!("cannot read {}", path.display()))?;
    let entry = entries
        .next()
        .with_context(|| format!("{} is empty", path.display()))?;
    let entry = entry.with_context(|| format!("cannot read {}", path.display()))?;
    Ok(entry.file_name().to_string_lossy().into_owned())
}

/// Numbers of all groups.
///
/// # Errors
/// When they cannot be listed.
pub fn groups() -> Result<Vec<u32>> {
    let path = "/sys/kernel/iommu_groups";
    let entries = std::fs::read_dir(path).with_context(|| format!("cannot read {path}"))?;
    let mut list: Vec<u32> = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok())
        .collect();
    list.sort_unstable();
    Ok(list)
}

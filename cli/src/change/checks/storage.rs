// SPDX-License-Identifier: GPL-2.0-only
//! Checks whether the running system uses storage on a device.
//!
//! Most file systems report their block device. Those that do not, such as btrfs, are found by the name of the device they were
//! mounted from. Whatever that misses (a second disk of btrfs, a pool of ZFS, a file system that is mounted only in a
//! container) has still claimed its disks in the kernel; an exclusive open (open(2), `O_EXCL` on a block device) then fails,
//! and is tried for each disk and partition at the end.

use std::path::Path;

use iommuctl_policy::Device;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::sys::stat::Mode;
use procfs::process::MountInfo;

use super::{some_of, Check, CheckFinding, Inspector, Present};
use crate::kernel::sysfs::Object;
use crate::sys::kernfs::KernFsError;
use crate::sys::printable::printable;

/// The block devices that are in use: directories, relative to the root of sysfs.
type Known = Vec<String>;

impl Inspector<'_> {
    pub(super) fn storage(
        &self,
        devices: &[&Device],
        present: &Present,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let Present { blocks, parts, .. } = present;
        let mut known = Known::new();
        let mut findings = self.mounted(devices, blocks, &mut known)?;
        findings.extend(self.swap(devices, blocks, &mut known)?);
        findings.extend(self.stacked(devices, parts, &mut known)?);
        if self.sysfs.is_real() {
            findings.extend(claimed(devices, blocks, known));
        }
        Ok(findings)
    }

    fn mounted(
        &self,
        devices: &[&Device],
        blocks: &[Object],
        known: &mut Known,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let mounts = self.proc.mounts()?;
        // Report each device and block device once: a file system can be mounted at many places.
        let mut places: Vec<(&Device, &Object, Vec<String>)> = Vec::new();
        for mount in mounts.iter() {
            for block in self.blocks_of(mount, blocks)? {
                for device in self.below(block, devices)? {
                    let place = printable(&mount.mount_point.display().to_string());
                    let same = |(d, b, _): &&mut (&Device, &Object, _)| {
                        d.name == device.name && b.path == block.path
                    };
                    match places.iter_mut().find(same) {
                        Some((_, _, list)) => list.push(place),
                        None => places.push((device, block, vec![place])),
                    }
                }
            }
        }
        let mut findings = Vec::new();
        for (device, block, list) in places {
            let use_of = format!("is mounted at {}", some_of(&list));
            findings.push(self.holds(Check::Mounted, device, block, &use_of, known)?);
        }
        Ok(findings)
    }

    /// The finding for a device with a block device that is in use.
    fn holds(
        &self,
        check: Check,
        device: &Device,
        block: &Object,
        use_of: &str,
        known: &mut Known,
    ) -> Result<CheckFinding, KernFsError> {
        known.push(block.path.clone());
        let title = self.sysfs.block_title(&block.name, &block.path)?;
        let message = format!("{} holds {title}, which {use_of}", device.name);
        Ok(CheckFinding::new(check, device, message))
    }

    /// The block devices that a mounted file system reports.
    fn blocks_of<'a>(
        &self,
        mount: &MountInfo,
        blocks: &'a [Object],
    ) -> Result<Vec<&'a Object>, KernFsError> {
        if !mount.majmin.starts_with("0:") {
            let number = mount.majmin.trim();
            let valid = number.bytes().all(|b| b.is_ascii_digit() || b == b':');
            let link = match valid {
                true => self.sysfs.kernfs().link(&format!("dev/block/{number}"))?,
                false => None,
            };
            return Ok(blocks
                .iter()
                .filter(|b| Some(&b.path) == link.as_ref())
                .collect());
        }
        // Split the source: bcachefs separates several devices by colons.
        let source = mount.mount_source.as_deref().unwrap_or_default();
        let mut found = Vec::new();
        for path in source.split(':') {
            found.extend(self.block_named(path, blocks)?);
        }
        Ok(found)
    }

    /// The block device with the node `path`, by its name alone.
    fn block_named<'a>(
        &self,
        path: &str,
        blocks: &'a [Object],
    ) -> Result<Option<&'a Object>, KernFsError> {
        let Some(name) = path.strip_prefix("/dev/") else {
            return Ok(None);
        };
        let name = name.replace('/', "!");
        if let Some(block) = blocks.iter().find(|b| b.name == name) {
            return Ok(Some(block));
        }
        let Some(mapped) = path.strip_prefix("/dev/mapper/") else {
            return Ok(None);
        };
        for block in blocks {
            let name = self
                .sysfs
                .kernfs()
                .text(&format!("{}/dm/name", block.path))?;
            if name.as_deref() == Some(mapped) {
                return Ok(Some(block));
            }
        }
        Ok(None)
    }

    fn swap(
        &self,
        devices: &[&Device],
        blocks: &[Object],
        known: &mut Known,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let mounts = self.proc.mounts()?;
        let mut findings = Vec::new();
        for swap in self.proc.swaps()? {
            let place = printable(&swap.path);
            let path = Path::new(&swap.path);
            let on: Vec<&Object> = if swap.is_file {
                let covers = |m: &&MountInfo| path.starts_with(&m.mount_point);
                // Take the last of the longest matches: a later mount hides an earlier one.
                let depth = |m: &&MountInfo| m.mount_point.components().count();
                let mount = mounts.iter().filter(covers).max_by_key(depth);
                mount.map_or(Ok(Vec::new()), |m| self.blocks_of(m, blocks))?
            } else {
                self.block_named(&swap.path, blocks)?.into_iter().collect()
            };
            for block in on {
                for device in self.below(block, devices)? {
                    let use_of = format!("the kernel swaps to ({place})");
                    findings.push(self.holds(Check::Swap, device, block, &use_of, known)?);
                }
            }
        }
        Ok(findings)
    }

    fn stacked(
        &self,
        devices: &[&Device],
        parts: &[(Object, Object)],
        known: &mut Known,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let mut findings = Vec::new();
        for (part, block) in parts {
            for device in self.below(part, devices)? {
                known.push(part.path.clone());
                let title = self.sysfs.block_title(&block.name, &block.path)?;
                let message = format!(
                    "{} holds {}, which {title} is made of",
                    device.name, part.name
                );
                findings.push(CheckFinding::new(Check::Stacked, device, message));
            }
        }
        Ok(findings)
    }

    /// Those of `devices` that a block device is made of.
    fn below<'a>(
        &self,
        block: &Object,
        devices: &[&'a Device],
    ) -> Result<Vec<&'a Device>, KernFsError> {
        let bottoms = self.sysfs.bottoms(&block.path)?;
        let is_one = |d: &&&Device| bottoms.iter().any(|b| b.is_below(&d.path));
        Ok(devices.iter().filter(is_one).copied().collect())
    }
}

/// The block devices that something in the kernel has claimed, and that are not known to be in use already.
fn claimed(devices: &[&Device], blocks: &[Object], mut known: Known) -> Vec<CheckFinding> {
    let mut findings = Vec::new();
    for device in devices {
        let mut own: Vec<&Object> = blocks.iter().filter(|b| b.is_below(&device.path)).collect();
        // Check partitions first: a claim on a partition is one on its disk, and the partition is the more precise finding.
        own.sort_by_key(|b| std::cmp::Reverse(b.path.len()));
        for block in own {
            let is_inside =
                |a: &str, b: &str| a.strip_prefix(b).is_some_and(|r| r.starts_with('/'));
            let explains = |k: &String| {
                *k == block.path || is_inside(k, &block.path) || is_inside(&block.path, k)
            };
            if known.iter().any(explains) || !is_claimed(&block.name) {
                continue;
            }
            known.push(block.path.clone());
            let message = format!(
                "{} holds {}, which something in the kernel has claimed: a file system mounted in another namespace, or \
                 one that spans several disks",
                device.name, block.name
            );
            findings.push(CheckFinding::new(Check::Mounted, device, message));
        }
    }
    findings
}

/// Whether an exclusive open fails. A node that is missing or may not be opened counts as free.
fn is_claimed(name: &str) -> bool {
    let node = Path::new("/dev").join(name.replace('!', "/"));
    let flags = OFlag::O_RDONLY | OFlag::O_EXCL | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    matches!(
        nix::fcntl::open(&node, flags, Mode::empty()),
        Err(Errno::EBUSY)
    )
}

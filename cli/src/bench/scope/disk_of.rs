// SPDX-License-Identifier: GPL-2.0-only
//! Finds the disk that a target stands for, or the reason why nothing can be measured.

use std::path::{Path, PathBuf};

use iommuctl_policy::{Device, Group, GroupId, Inventory, PciAddress};
use serde::Serialize;

use crate::bench::disk::{Disk, DiskError};
use crate::bench::mode::Mode;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::{Bottom, Object};
use crate::kernel::target::Target;
use crate::sys::kernfs::{KernFs, KernFsError};

/// The reason why there is nothing to be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalReason {
    /// It is a network interface.
    Network,
    /// It is made of other disks.
    Stacked,
    /// It is a disk with several paths, or one of those.
    Paths,
    /// It is something else.
    NotADisk,
    /// It is a disk, whose group has neither of the two types.
    Type,
}

/// A refusal to measure, and what would work instead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Refusal {
    /// The reason, for programs.
    pub reason: RefusalReason,
    /// The message, for people.
    pub message: String,
    /// What would work, one line each.
    pub advice: Vec<String>,
}

/// The disk that is measured.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Subject {
    /// Its name: `nvme0n1`, or that of a partition.
    pub disk: String,
    /// Its node.
    pub node: String,
    /// Its group.
    pub group: GroupId,
    /// The PCI device it belongs to.
    pub address: Option<PciAddress>,
    /// Its directory, relative to the root of sysfs.
    #[serde(skip)]
    path: String,
}

/// The disk that a target stands for, or the refusal for its group.
pub type Found = Result<Subject, (GroupId, Refusal)>;

/// Finds the disk that `target` stands for: the named one, or the only one of the named device or group.
///
/// # Errors
///
/// An error, if it stands for nothing, for several groups, or for several disks; a [`Refusal`] is not an error.
pub fn find(context: &Context, target: &Target, inventory: &Inventory) -> anyhow::Result<Found> {
    let groups = context.resolve(std::slice::from_ref(target), inventory)?;
    let named = context.block_device(target, inventory)?;
    if let (Some(path), Some(group)) = (&named, groups.first()) {
        if let Some(refusal) = unfit(context, path, groups.len())? {
            return Ok(Err((*group, refusal)));
        }
    }
    let mut ids = groups.iter();
    let (Some(id), None) = (ids.next(), ids.next()) else {
        return Err(several(target, &format!("{} groups", groups.len())).into());
    };
    let Some(group) = inventory.group(*id) else {
        return Err(Failure::new(Exit::Failed, crate::change::advice::VANISHED).into());
    };
    let subject = |path: &str| {
        let disk = path.rsplit('/').next().unwrap_or(path).to_owned();
        let root = context.root.as_deref().unwrap_or(Path::new("/"));
        // sysfs replaces a slash in a name by an exclamation mark: `cciss!c0d0`.
        let node: PathBuf = root.join("dev").join(disk.replace('!', "/"));
        Subject {
            node: node.display().to_string(),
            disk,
            group: *id,
            address: address(context, inventory, group, path),
            path: path.to_owned(),
        }
    };
    if let Some(path) = named {
        return Ok(Ok(subject(&path)));
    }
    let disks = match target {
        // The name is not that of a disk.
        Target::Interface(_) | Target::Name(_) => Vec::new(),
        _ => disks_of(context, inventory, group, target)?,
    };
    match disks.as_slice() {
        [one] => Ok(Ok(subject(&one.path))),
        [] => Ok(Err((*id, refusal(context, group, target)?))),
        many => {
            let names: Vec<String> = many.iter().map(|d| format!("/dev/{}", d.name)).collect();
            let message = format!("{target} has {} disks, and one is measured", many.len());
            let advice = vec![format!("name one of them: {}", names.join(", "))];
            Err(Failure::new(Exit::Failed, message)
                .with_advice(advice)
                .into())
        }
    }
}

/// Rejects a `target` that stands for every group. Any other is resolved later.
///
/// # Errors
///
/// [`Failure`], if it is `all`, however few devices there are.
pub fn check(target: &Target) -> Result<(), Failure> {
    match target {
        Target::All => Err(several(target, "every group")),
        _ => Ok(()),
    }
}

fn several(target: &Target, what: &str) -> Failure {
    let message = format!("{target} stands for {what}, and one device is measured at a time");
    let advice = vec!["name one disk, such as /dev/nvme0n1: `lsblk` lists them".to_owned()];
    Failure::new(Exit::Usage, message).with_advice(advice)
}

impl Subject {
    /// Opens the disk.
    pub fn open(&self, context: &Context) -> Result<Disk, DiskError> {
        let text = |path: String| context.sysfs.kernfs().text(&path).ok().flatten();
        let number = text(format!("{}/dev", self.path)).and_then(|t| {
            let (major, minor) = t.split_once(':')?;
            Some((major.parse().ok()?, minor.parse().ok()?))
        });
        // Use the block size of the disk above a partition.
        let above = self.path.rsplit_once('/').map_or("", |(above, _)| above);
        let size = |at: &str| text(format!("{at}/queue/logical_block_size"));
        let logical = size(&self.path).or_else(|| size(above));
        // A test tree has plain files for disks.
        let number = number.filter(|_| context.sysfs.is_real());
        let logical = logical.and_then(|l| l.parse().ok());
        if context.sysfs.is_real() && number.is_none() {
            return Err(DiskError::OtherNode(self.node.clone()));
        }
        Disk::open(Path::new(&self.node), number, logical)
    }
}

/// The names of the block devices that the one in the directory `path` is stacked on; none for a disk. A partition counts as
/// stacked on what its disk is stacked on.
fn made_of(context: &Context, path: &str) -> Result<Vec<String>, KernFsError> {
    let kernfs = context.sysfs.kernfs();
    let mut names = kernfs.names(&format!("{path}/slaves"))?.unwrap_or_default();
    if names.is_empty() {
        if let Some((above, _)) = path.rsplit_once('/') {
            names = kernfs
                .names(&format!("{above}/slaves"))?
                .unwrap_or_default();
        }
    }
    Ok(names)
}

/// The disks of `group`, or, if `target` names a device of it, of that device. The devices behind a port of the group have
/// groups of their own.
fn disks_of(
    context: &Context,
    inventory: &Inventory,
    group: &Group,
    target: &Target,
) -> Result<Vec<Object>, KernFsError> {
    let kernfs = context.sysfs.kernfs();
    let mut disks = Vec::new();
    for object in context.sysfs.blocks()? {
        let says = |name: &str| kernfs.text(&format!("{}/{name}", object.path));
        // Skip partitions, the single paths of a multipath disk, and stacked devices.
        if says("partition")?.is_some()
            || is_hidden(kernfs, &object.path)?
            || is_part(kernfs, &object)?
            || !made_of(context, &object.path)?.is_empty()
        {
            continue;
        }
        let bottoms = context.sysfs.bottoms(&object.path)?;
        let mut owners = bottoms.iter().filter_map(|b| owner(inventory, b));
        let is_meant = |device: &Device| match target {
            Target::Pci(address) => device.address == Some(*address),
            _ => true,
        };
        if owners.any(|(id, device)| id == group.id && is_meant(device)) {
            disks.push(object);
        }
    }
    Ok(disks)
}

/// Whether it is a part of another block device, whose directory is its parent.
fn is_part(kernfs: &KernFs, object: &Object) -> Result<bool, KernFsError> {
    let above = object.path.rsplit_once('/').map_or("", |(above, _)| above);
    let name = above.rsplit('/').next().unwrap_or(above);
    let link = kernfs.link(&format!("class/block/{name}"))?;
    Ok(link.as_deref() == Some(above))
}

/// The device that `bottom` belongs to, the nearest one above it, and its group.
fn owner<'a>(inventory: &'a Inventory, bottom: &Bottom) -> Option<(GroupId, &'a Device)> {
    let groups = inventory.groups().iter();
    let devices = groups.flat_map(|group| group.devices.iter().map(move |d| (group.id, d)));
    devices
        .filter(|(_, device)| bottom.is_below(&device.path))
        .max_by_key(|(_, device)| device.path.len())
}

/// The PCI device of `group` that the disk in the directory `path` belongs to.
fn address(
    context: &Context,
    inventory: &Inventory,
    group: &Group,
    path: &str,
) -> Option<PciAddress> {
    let bottoms = context.sysfs.bottoms(path).ok()?;
    let mut owners = bottoms.iter().filter_map(|b| owner(inventory, b));
    let (_, device) = owners.find(|(id, _)| *id == group.id)?;
    device.address
}

/// The reason why the block device in the directory `path`, with so many groups behind it, cannot be measured; `None` if it
/// can.
fn unfit(context: &Context, path: &str, groups: usize) -> Result<Option<Refusal>, KernFsError> {
    let below = made_of(context, path)?;
    Ok(if !below.is_empty() {
        Some(stacked(&below))
    } else if is_hidden(context.sysfs.kernfs(), path)? {
        Some(one_path())
    } else if groups > 1 {
        Some(several_paths(groups))
    } else {
        None
    })
}

/// Whether it is a single path of a multipath disk, which the kernel hides (`GENHD_FL_HIDDEN` in `include/linux/blkdev.h`).
fn is_hidden(kernfs: &KernFs, path: &str) -> Result<bool, KernFsError> {
    let says = kernfs.text(&format!("{path}/hidden"))?;
    Ok(says.as_deref() == Some("1"))
}

fn stacked(below: &[String]) -> Refusal {
    let names: Vec<String> = below.iter().map(|n| format!("/dev/{n}")).collect();
    Refusal {
        reason: RefusalReason::Stacked,
        message: "it is made of other block devices, and what they cost together says nothing about one group"
            .to_owned(),
        advice: vec![format!("name what it is made of: {}", names.join(", "))],
    }
}

fn one_path() -> Refusal {
    Refusal {
        reason: RefusalReason::Paths,
        message: "it is one path of a disk that has several, and nobody can read from it alone"
            .to_owned(),
        advice: vec!["name the disk itself: `lsblk` lists it".to_owned()],
    }
}

fn several_paths(groups: usize) -> Refusal {
    Refusal {
        reason: RefusalReason::Paths,
        message: format!(
            "it has paths through {groups} groups, and what they cost together says nothing about one of them"
        ),
        advice: vec!["a disk with one path says it of its own group".to_owned()],
    }
}

/// The refusal for a target without a disk.
fn refusal(context: &Context, group: &Group, target: &Target) -> Result<Refusal, KernFsError> {
    let is_named = |path: &str| match target {
        Target::Pci(address) => group
            .devices
            .iter()
            .any(|d| d.address == Some(*address) && d.path == path),
        _ => true,
    };
    let interfaces = context.sysfs.interfaces()?;
    let mut devices = group.devices.iter().filter(|d| is_named(&d.path));
    let network = matches!(target, Target::Interface(_) | Target::Name(_))
        || devices.any(|d| interfaces.iter().any(|i| i.is_below(&d.path)));
    let live = group.domain_type.as_ref().and_then(Mode::of);
    let by_hand = |how: &str| {
        match live {
        Some(original) => vec![format!(
            "{how} between `iommuctl set-mode {id} DMA` and `iommuctl set-mode {id} DMA-FQ`, several times by turns; it is {original} now",
            id = group.id
        )],
        // Neither type can be reached and left again without an interruption.
        None => Vec::new(),
    }
    };
    Ok(if network {
        Refusal {
            reason: RefusalReason::Network,
            message: "what a network interface can do shows only with somebody at the other end, and there is none to measure with"
                .to_owned(),
            advice: by_hand("measure with iperf3 against another machine, or with your own load,"),
        }
    } else {
        Refusal {
            reason: RefusalReason::NotADisk,
            message: "it has no disk, and a bench knows no load for anything else".to_owned(),
            advice: by_hand("measure with the load that it is there for,"),
        }
    })
}

// SPDX-License-Identifier: GPL-2.0-only
//! Resolves the targets that people name to the groups of this machine.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{Path, PathBuf};

use iommuctl_policy::{Device, GroupId, Inventory};
use nix::sys::stat::{major, minor};

use super::procfs::Proc;
use super::sysfs::Sysfs;
use super::target::Target;
use crate::sys::kernfs::KernFsError;
use crate::sys::printable::printable;

/// A target stands for no group on this machine.
#[derive(Debug, thiserror::Error)]
pub enum ResolveError {
    /// There is no such object.
    #[error("nothing found for {target}: {reason}")]
    NotFound {
        /// The target.
        target: String,
        /// Why it stands for nothing.
        reason: String,
        /// Where to look for the right name.
        advice: String,
    },
    /// Both a network interface and a block device have the name.
    #[error("{0} is the name of a network interface and of a block device")]
    Ambiguous(String),
    /// sysfs or procfs could not be read.
    #[error(transparent)]
    KernFs(#[from] KernFsError),
}

/// The object that a bare name stands for, with its directory in sysfs.
enum Thing {
    Interface(String),
    Block(String),
}

impl ResolveError {
    /// The advice for this error, one line each.
    #[must_use]
    pub fn advice(&self) -> Vec<String> {
        match self {
            Self::NotFound { advice, .. } => vec![advice.clone()],
            Self::Ambiguous(name) => vec![format!("say net:{name} or /dev/{name}")],
            Self::KernFs(_) => Vec::new(),
        }
    }
}

/// Looks up targets in sysfs, procfs and an inventory.
#[derive(Debug)]
pub struct Resolver<'a> {
    /// The open sysfs.
    pub sysfs: &'a Sysfs,
    /// The open procfs.
    pub proc: &'a Proc,
    /// The groups of the machine.
    pub inventory: &'a Inventory,
}

impl Resolver<'_> {
    /// The groups that `targets` stand for, each once, by number.
    ///
    /// # Errors
    ///
    /// [`ResolveError`] for the first target that stands for nothing.
    pub fn resolve(&self, targets: &[Target]) -> Result<BTreeSet<GroupId>, ResolveError> {
        let mut groups = BTreeSet::new();
        for target in targets {
            groups.extend(self.resolve_one(target)?);
        }
        Ok(groups)
    }

    fn resolve_one(&self, target: &Target) -> Result<BTreeSet<GroupId>, ResolveError> {
        let missing = |reason: &str, advice: &str| ResolveError::NotFound {
            target: target.to_string(),
            reason: reason.to_owned(),
            advice: advice.to_owned(),
        };
        let found: BTreeSet<GroupId> = match target {
            Target::All => self.inventory.groups().iter().map(|g| g.id).collect(),
            Target::Group(id) => self
                .inventory
                .group(*id)
                .map(|g| g.id)
                .into_iter()
                .collect(),
            Target::Pci(address) => match self.inventory.group_of(*address) {
                Some(group) => [group.id].into(),
                None if self.exists(&format!("bus/pci/devices/{address}"))? => {
                    let reason = "the device is in no IOMMU group";
                    return Err(missing(reason, "`iommuctl list` shows every device in one"));
                }
                None => BTreeSet::new(),
            },
            Target::Driver(name) => {
                let wanted = self
                    .inventory
                    .groups_with(|d| d.driver.as_deref() == Some(name.as_str()));
                wanted.map(|g| g.id).collect()
            }
            Target::Class(class) => {
                let wanted = self
                    .inventory
                    .groups_with(|d| d.class.is_some_and(|c| class.matches(c)));
                wanted.map(|g| g.id).collect()
            }
            Target::Interface(name) => {
                match self.sysfs.kernfs().link(&format!("class/net/{name}"))? {
                    Some(path) => self.behind(target, &path)?,
                    None => {
                        let advice = "`ip link` lists the interfaces";
                        return Err(missing("there is no such interface", advice));
                    }
                }
            }
            Target::Name(name) => match self.thing(name)? {
                Some(Thing::Interface(path) | Thing::Block(path)) => self.behind(target, &path)?,
                None => {
                    let reason = "there is no such block device or network interface";
                    return Err(missing(reason, &self.what_else(name)));
                }
            },
            Target::Path(path) => self.resolve_path(target, path)?,
        };
        if found.is_empty() {
            let reason = match target {
                Target::All => "there are no IOMMU groups",
                Target::Group(_) => "there is no such group",
                Target::Driver(_) => "no device in an IOMMU group is bound to it",
                Target::Class(_) => "no device in an IOMMU group is of it",
                _ => "there is no such device",
            };
            return Err(missing(
                reason,
                "`iommuctl list` shows every group, device and driver",
            ));
        }
        Ok(found)
    }

    fn exists(&self, link: &str) -> Result<bool, KernFsError> {
        Ok(self.sysfs.kernfs().link(link)?.is_some())
    }

    /// The object that the kernel calls `name`, which is one component of a path.
    fn thing(&self, name: &str) -> Result<Option<Thing>, ResolveError> {
        let link = |class: &str| self.sysfs.kernfs().link(&format!("class/{class}/{name}"));
        match (link("net")?, link("block")?) {
            (Some(_), Some(_)) => Err(ResolveError::Ambiguous(name.to_owned())),
            (Some(path), None) => Ok(Some(Thing::Interface(path))),
            (None, block) => Ok(block.map(Thing::Block)),
        }
    }

    /// A hint for a `name` that stands for nothing: people try the name of a driver.
    fn what_else(&self, name: &str) -> String {
        let is_driver = |d: &Device| d.driver.as_deref() == Some(name);
        match self.inventory.groups_with(is_driver).next() {
            Some(_) => format!("say driver:{name} for every group with a device bound to {name}"),
            None => "`lsblk` and `ip link` list them, and `iommuctl show --help` what else a target can be".to_owned(),
        }
    }

    /// The directory of the block device that `target` names, is the node of, or is the mount point of a file system on; `None`
    /// for any other target.
    pub fn block_device(&self, target: &Target) -> Result<Option<String>, ResolveError> {
        let path = match target {
            Target::Path(path) => path,
            Target::Name(name) => {
                return Ok(match self.thing(name)? {
                    Some(Thing::Block(path)) => Some(path),
                    Some(Thing::Interface(_)) | None => None,
                })
            }
            _ => return Ok(None),
        };
        match self.node(target, path)? {
            ("block", (major, minor)) => {
                let link = format!("dev/block/{major}:{minor}");
                Ok(self.sysfs.kernfs().link(&link)?)
            }
            _ => Ok(None),
        }
    }

    fn resolve_path(
        &self,
        target: &Target,
        path: &Path,
    ) -> Result<BTreeSet<GroupId>, ResolveError> {
        let (kind, numbers) = self.node(target, path)?;
        self.by_number(target, kind, numbers)
    }

    /// The type and the number of the device behind a node or a mount point.
    fn node(
        &self,
        target: &Target,
        path: &Path,
    ) -> Result<(&'static str, (u64, u64)), ResolveError> {
        let missing = |reason: String, advice: &str| ResolveError::NotFound {
            target: target.to_string(),
            reason,
            advice: advice.to_owned(),
        };
        let advice = "name a device node (`lsblk`), a mount point (`findmnt`), a PCI address or a group (`iommuctl list`)";
        let found = fs::metadata(path);
        let number = |rdev: u64| (major(rdev), minor(rdev));
        match &found {
            Ok(node) if node.file_type().is_block_device() => {
                return Ok(("block", number(node.rdev())))
            }
            Ok(node) if node.file_type().is_char_device() => {
                return Ok(("char", number(node.rdev())))
            }
            Ok(node) if !node.is_dir() => {
                let reason = "it is neither a device node nor a mount point".to_owned();
                return Err(missing(reason, advice));
            }
            _ => {}
        }
        // Canonicalize the path, as mountinfo has it. A path that does not exist can still be in a mount table of a test.
        let canonical = fs::canonicalize(path).unwrap_or_else(|_| PathBuf::from(path));
        let mounts = self.proc.mounts()?;
        // Take the last mount on the path: it hides the earlier ones.
        let mount = mounts.iter().rfind(|m| m.mount_point == canonical);
        let Some(mount) = mount else {
            return Err(match found {
                Err(error) => missing(os_reason(&error), advice),
                Ok(_) => missing("the directory is not a mount point".to_owned(), advice),
            });
        };
        let source = mount.mount_source.as_deref().unwrap_or("none");
        let numbers = mount.majmin.split_once(':');
        let numbers = numbers.and_then(|(a, b)| Some((a.parse().ok()?, b.parse().ok()?)));
        match numbers {
            // Major number 0 means that there is no single device: the file system spans several, or has none.
            None | Some((0, _)) => {
                let reason = format!(
                    "it is a {} file system, which does not say which device it is on (mounted from {})",
                    printable(&mount.fs_type),
                    printable(source)
                );
                Err(missing(reason, "name the device node itself"))
            }
            Some(numbers) => Ok(("block", numbers)),
        }
    }

    fn by_number(
        &self,
        target: &Target,
        kind: &str,
        (major, minor): (u64, u64),
    ) -> Result<BTreeSet<GroupId>, ResolveError> {
        let link = format!("dev/{kind}/{major}:{minor}");
        match self.sysfs.kernfs().link(&link)? {
            Some(path) => self.behind(target, &path),
            None => Err(ResolveError::NotFound {
                target: target.to_string(),
                reason: format!("the kernel has no {kind} device {major}:{minor}"),
                advice: "the device may have been removed; `lsblk` lists block devices".to_owned(),
            }),
        }
    }

    /// The groups behind the object at `path`; never empty.
    fn behind(&self, target: &Target, path: &str) -> Result<BTreeSet<GroupId>, ResolveError> {
        let groups = self.sysfs.groups_behind(path)?;
        if groups.is_empty() {
            return Err(ResolveError::NotFound {
                target: target.to_string(),
                reason: "no device in an IOMMU group is behind it".to_owned(),
                advice: "it may be virtual (loop, tun, ram disk), or its device does no DMA through an IOMMU"
                    .to_owned(),
            });
        }
        Ok(groups)
    }
}

/// The kernel's text for an error, without the number that Rust appends.
fn os_reason(error: &std::io::Error) -> String {
    match error.raw_os_error() {
        Some(number) => nix::errno::Errno::from_raw(number).desc().to_owned(),
        None => error.to_string(),
    }
}

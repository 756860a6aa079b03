// SPDX-License-Identifier: GPL-2.0-only
//! `/sys/kernel/iommu_groups` (`Documentation/ABI/testing/sysfs-kernel-iommu_groups`, `drivers/iommu/iommu.c`).

use std::collections::BTreeSet;

use iommuctl_policy::{DomainType, Group, GroupId, Inventory, ReservedRegion};

use super::{Problems, Sysfs};
use crate::sys::kernfs::{KernDir, KernFsError};

const GROUPS: &str = "kernel/iommu_groups";

impl Sysfs {
    /// All groups with all their devices. A machine without an IOMMU has an empty inventory.
    ///
    /// # Errors
    ///
    /// [`KernFsError`], if the list of groups cannot be read. Anything else that cannot be read is missing from the inventory
    /// and noted in `problems`.
    pub fn inventory(&self, problems: &mut Problems) -> Result<Inventory, KernFsError> {
        let Some(groups) = self.kernfs.dir(GROUPS)? else {
            return Ok(Inventory::new(Vec::new()));
        };
        let ids = self.group_ids()?.into_iter();
        let open = |id: GroupId| groups.dir(&id.to_string());
        let groups = ids.filter_map(|id| self.group_in(id, open(id), problems));
        Ok(Inventory::new(groups.collect()))
    }

    /// The type of each group, by number, without reading the devices; `None` where it cannot be read.
    pub fn domain_types(
        &self,
        problems: &mut Problems,
    ) -> Result<Vec<Option<DomainType>>, KernFsError> {
        let Some(groups) = self.kernfs.dir(GROUPS)? else {
            return Ok(Vec::new());
        };
        let mut types = Vec::new();
        for id in self.group_ids()? {
            if let Ok(Some(group)) = groups.dir(&id.to_string()) {
                let text = problems.note(group.text("type"));
                types.push(text.map(|t| DomainType::from_kernel(&t)));
            }
        }
        Ok(types)
    }

    /// The numbers of all groups.
    pub fn group_ids(&self) -> Result<BTreeSet<GroupId>, KernFsError> {
        let names = self.kernfs.names(GROUPS)?.unwrap_or_default();
        Ok(names.iter().filter_map(|name| name.parse().ok()).collect())
    }

    /// The directories of the devices of a group, without reading the devices; none if the group is gone.
    pub fn member_paths(&self, id: GroupId) -> Result<BTreeSet<String>, KernFsError> {
        let at = format!("{GROUPS}/{id}/devices");
        let names = self.kernfs.names(&at)?.unwrap_or_default();
        let paths = names
            .iter()
            .map(|name| self.kernfs.link(&format!("{at}/{name}")));
        paths.filter_map(Result::transpose).collect()
    }

    /// The current state of the group with this number; `None` if it does not exist.
    pub fn group(&self, id: GroupId, problems: &mut Problems) -> Option<Group> {
        self.group_in(id, self.kernfs.dir(&format!("{GROUPS}/{id}")), problems)
    }

    /// The group whose directory is `folder`; `None` if there is no directory.
    fn group_in(
        &self,
        id: GroupId,
        folder: Result<Option<KernDir<'_>>, KernFsError>,
        problems: &mut Problems,
    ) -> Option<Group> {
        let folder = folder.ok()??;
        let links = problems.note(folder.links("devices"));
        let mut devices = Vec::new();
        for (name, path) in links.unwrap_or_default() {
            if let Some(path) = problems.note(path.map(Some)) {
                devices.push(self.device(&name, &path, problems));
            }
        }
        let mut text = |attribute| problems.note(folder.text(attribute));
        Some(Group {
            id,
            name: text("name"),
            domain_type: text("type").map(|text| DomainType::from_kernel(&text)),
            // INVARIANT: sorted, since KernDir::links returns them sorted.
            devices,
        })
    }

    /// The current type of a group; `None` if the group or the attribute is gone.
    pub fn domain_type(&self, id: GroupId) -> Result<Option<DomainType>, KernFsError> {
        let text = self.kernfs.text(&Self::type_path(id))?;
        Ok(text.map(|t| DomainType::from_kernel(&t)))
    }

    /// The path of the `type` attribute of a group, relative to the root.
    #[must_use]
    pub fn type_path(id: GroupId) -> String {
        format!("{GROUPS}/{id}/type")
    }

    /// The reserved regions of a group: one on each line, `0x… 0x… kind` (`iommu_group_show_resv_regions`). Lines of
    /// another shape are left out.
    pub fn reserved_regions(&self, id: GroupId, problems: &mut Problems) -> Vec<ReservedRegion> {
        let text = problems.note(self.kernfs.text(&format!("{GROUPS}/{id}/reserved_regions")));
        text.unwrap_or_default()
            .lines()
            .filter_map(reserved_region)
            .collect()
    }
}

fn reserved_region(line: &str) -> Option<ReservedRegion> {
    let address = |text: &str| u64::from_str_radix(text.strip_prefix("0x")?, 16).ok();
    let mut words = line.split_ascii_whitespace();
    Some(ReservedRegion {
        start: address(words.next()?)?,
        end: address(words.next()?)?,
        kind: words.next()?.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_regions_parse() {
        let msi = reserved_region("0x00000000fee00000 0x00000000feefffff msi").unwrap();
        assert_eq!((msi.start, msi.end), (0xfee0_0000, 0xfeef_ffff));
        assert_eq!(msi.kind, "msi");
        for line in ["", "0x1", "0x1 0x2", "1 2 msi", "0xg 0x2 msi"] {
            assert!(reserved_region(line).is_none(), "{line:?} was accepted");
        }
    }
}

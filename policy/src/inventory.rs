// SPDX-License-Identifier: GPL-2.0-only
//! What the machine has.

use crate::{Device, Group, GroupId, PciAddress};

/// All IOMMU groups of a machine, at one moment.
///
/// # Invariants
///
/// Groups are sorted by number, and no number occurs twice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    groups: Vec<Group>,
}

impl Inventory {
    /// Makes an inventory of `groups`, in any order. Of two groups with one number the first is kept.
    #[must_use]
    pub fn new(mut groups: Vec<Group>) -> Self {
        // INVARIANT: the sort is stable, so of equal numbers the first survives.
        groups.sort_by_key(|g| g.id);
        groups.dedup_by_key(|g| g.id);
        Self { groups }
    }

    /// The same inventory with `change` applied to each device. It must leave the names alone, by which they are sorted.
    #[must_use]
    pub fn with_devices(mut self, mut change: impl FnMut(&mut Device)) -> Self {
        let devices = self.groups.iter_mut().flat_map(|g| &mut g.devices);
        devices.for_each(&mut change);
        self
    }

    /// The groups, by number.
    #[must_use]
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }

    /// The group with this number.
    #[must_use]
    pub fn group(&self, id: GroupId) -> Option<&Group> {
        let index = self.groups.binary_search_by_key(&id, |g| g.id).ok()?;
        self.groups.get(index)
    }

    /// The group that holds the PCI device at `address`.
    #[must_use]
    pub fn group_of(&self, address: PciAddress) -> Option<&Group> {
        self.groups
            .iter()
            .find(|g| g.devices.iter().any(|d| d.address == Some(address)))
    }

    /// The groups with at least one device that `wanted` says yes to.
    pub fn groups_with<'a>(
        &'a self,
        wanted: impl Fn(&Device) -> bool + 'a,
    ) -> impl Iterator<Item = &'a Group> {
        self.groups
            .iter()
            .filter(move |g| g.devices.iter().any(&wanted))
    }

    /// Whether the machine has no group at all: no IOMMU, or one that is off.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.groups.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(id: u32) -> Group {
        Group {
            id: GroupId(id),
            name: None,
            domain_type: None,
            devices: Vec::new(),
        }
    }

    #[test]
    fn groups_are_sorted_and_unique() {
        let inventory = Inventory::new(vec![group(10), group(2), group(10)]);
        let ids: Vec<u32> = inventory.groups().iter().map(|g| g.id.0).collect();
        assert_eq!(ids, [2, 10]);
        assert!(inventory.group(GroupId(10)).is_some());
        assert!(inventory.group(GroupId(3)).is_none());
    }
}

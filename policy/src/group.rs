// SPDX-License-Identifier: GPL-2.0-only
//! IOMMU groups.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::{Device, DomainType};

/// The number of an IOMMU group: the name of its directory in `/sys/kernel/iommu_groups`.
///
/// Group numbers are not stable across boots. Nothing that lasts longer than the running system may be keyed by one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(transparent)]
pub struct GroupId(pub u32);

/// The text is not a group number.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not an IOMMU group number")]
pub struct ParseGroupIdError(String);

impl FromStr for GroupId {
    type Err = ParseGroupIdError;

    /// Takes decimal digits only, no sign. The kernel's group numbers are non-negative `int`s.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.bytes().all(|b| b.is_ascii_digit());
        match text.parse::<u32>() {
            Ok(id) if digits && i32::try_from(id).is_ok() => Ok(Self(id)),
            _ => Err(ParseGroupIdError(text.to_owned())),
        }
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// A range of I/O virtual addresses that is not free for use, from
/// `/sys/kernel/iommu_groups/N/reserved_regions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ReservedRegion {
    /// First address of the region, in bytes.
    pub start: u64,
    /// Last address of the region (inclusive), in bytes.
    pub end: u64,
    /// The kernel's word for why: `direct`, `direct-relaxable`, `reserved`, `msi`.
    pub kind: String,
}

/// An IOMMU group: the devices the IOMMU cannot tell apart, and the domain type they share.
///
/// # Invariants
///
/// `devices` is sorted by name. It can be empty: a group outlives its last device for as long as somebody holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// The group's number.
    pub id: GroupId,
    /// The name some IOMMU drivers give a group.
    pub name: Option<String>,
    /// The type of its default domain; `None` if the `type` file is missing (before Linux 5.11) or unreadable.
    pub domain_type: Option<DomainType>,
    /// The devices in it.
    pub devices: Vec<Device>,
}

impl Group {
    /// The devices whose driver keeps the kernel from replacing the group's domain.
    pub fn holders(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|d| d.holds_group())
    }

    /// The devices somebody can plug in from outside.
    pub fn external(&self) -> impl Iterator<Item = &Device> {
        self.devices.iter().filter(|d| d.is_external())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn group_numbers_are_plain_decimal() {
        assert_eq!("12".parse(), Ok(GroupId(12)));
        for text in ["", "+1", "-1", "0x1", "1.0", "4294967295", "99999999999"] {
            assert!(text.parse::<GroupId>().is_err(), "{text:?} was accepted");
        }
    }
}

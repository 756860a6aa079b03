// SPDX-License-Identifier: GPL-2.0-only
//! Parses the targets by which people name groups. Looks nothing up; `super::resolve` does that.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use iommuctl_policy::{
    ClassFilter, GroupId, ParseClassError, ParseGroupIdError, ParsePciAddressError, PciAddress,
};

/// Something that stands for one or more groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Every group.
    All,
    /// The group with this number.
    Group(GroupId),
    /// The group of this PCI device.
    Pci(PciAddress),
    /// The group of the device behind this device node or mount point.
    Path(PathBuf),
    /// The group of this network interface.
    Interface(String),
    /// The group of the network interface or of the block device that the kernel calls so, whichever there is.
    Name(String),
    /// Every group with a device bound to this driver.
    Driver(String),
    /// Every group with a device of this class.
    Class(ClassFilter),
}

/// The text is not a target.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTargetError {
    /// There is no text, or none after the prefix.
    #[error("a target cannot be empty")]
    Empty,
    /// The prefix is for a group, and no number follows.
    #[error(transparent)]
    Group(#[from] ParseGroupIdError),
    /// The prefix is for a PCI device, and no PCI address follows.
    #[error(transparent)]
    Pci(#[from] ParsePciAddressError),
    /// The prefix is for a class, and no class follows.
    #[error(transparent)]
    Class(#[from] ParseClassError),
    /// It has the form of no target.
    #[error("`{0}` is not a group number, PCI address, path, block device, network interface, driver:NAME, class:NAME or all")]
    Unrecognised(String),
}

/// Whether the kernel would accept `name` as the name of a network interface, a block device or a driver, so that it can be used
/// as one component of a path (`dev_valid_name` in `net/core/dev.c`).
fn is_plain_name(name: &str) -> bool {
    !name.is_empty()
        && name.len() < 64
        && name != "."
        && name != ".."
        && name.bytes().all(|b| b.is_ascii_graphic() && b != b'/')
}

fn plain(name: &str) -> Result<String, ParseTargetError> {
    if name.is_empty() {
        Err(ParseTargetError::Empty)
    } else if is_plain_name(name) {
        Ok(name.to_owned())
    } else {
        Err(ParseTargetError::Unrecognised(name.to_owned()))
    }
}

impl FromStr for Target {
    type Err = ParseTargetError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.is_empty() {
            return Err(ParseTargetError::Empty);
        }
        // Check for a path first: `/dev/disk/by-path/pci-0000:00:1f.2` contains a colon, too.
        if text.contains('/') {
            return Ok(Self::Path(PathBuf::from(text)));
        }
        match text.split_once(':') {
            Some(("group", rest)) => return Ok(Self::Group(rest.parse()?)),
            Some(("pci", rest)) => return Ok(Self::Pci(rest.parse()?)),
            Some(("net", rest)) => return plain(rest).map(Self::Interface),
            Some(("driver", rest)) => return plain(rest).map(Self::Driver),
            Some(("class", "")) => return Err(ParseTargetError::Empty),
            Some(("class", rest)) => return Ok(Self::Class(rest.parse()?)),
            _ => {}
        }
        if text == "all" {
            Ok(Self::All)
        } else if let Ok(id) = text.parse() {
            Ok(Self::Group(id))
        } else if let Ok(address) = text.parse() {
            Ok(Self::Pci(address))
        } else if text.contains(':') {
            // Reject a colon: no interface name has one, so this is a mistyped address or an unknown prefix.
            Err(ParseTargetError::Unrecognised(text.to_owned()))
        } else {
            plain(text).map(Self::Name)
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::Group(id) => write!(f, "group {id}"),
            Self::Pci(address) => write!(f, "PCI device {address}"),
            Self::Path(path) => write!(f, "{}", path.display()),
            Self::Interface(name) => write!(f, "network interface {name}"),
            Self::Name(name) => f.write_str(name),
            Self::Driver(name) => write!(f, "driver {name}"),
            Self::Class(class) => write!(f, "class {class}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Target {
        text.parse().unwrap()
    }

    #[test]
    fn each_form_is_recognised() {
        assert_eq!(parse("all"), Target::All);
        assert_eq!(parse("3"), Target::Group(GroupId(3)));
        assert_eq!(parse("group:3"), Target::Group(GroupId(3)));
        assert_eq!(parse("00:1f.2"), Target::Pci("00:1f.2".parse().unwrap()));
        assert_eq!(parse("pci:0000:00:1f.2"), parse("00:1f.2"));
        assert_eq!(parse("/dev/nvme0n1"), Target::Path("/dev/nvme0n1".into()));
        assert_eq!(parse("./3"), Target::Path("./3".into()));
        assert_eq!(parse("enp0s31f6"), Target::Name("enp0s31f6".into()));
        assert_eq!(parse("nvme0n1"), Target::Name("nvme0n1".into()));
        // A VLAN.
        assert_eq!(parse("eth0.7"), Target::Name("eth0.7".into()));
        assert_eq!(parse("net:all"), Target::Interface("all".into()));
        assert_eq!(parse("driver:nvme"), Target::Driver("nvme".into()));
        assert_eq!(parse("class:0x02"), parse("class:network"));
    }

    #[test]
    fn nonsense_is_refused() {
        for text in [
            "",
            "group:x",
            "pci:3",
            "driver:",
            "class:",
            "class:x",
            "net:",
            "00:20.0",
            "foo:bar",
            "..",
            "a b",
            "a\u{1b}[2J",
        ] {
            assert!(text.parse::<Target>().is_err(), "{text:?} was accepted");
        }
    }
}

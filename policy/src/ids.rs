// SPDX-License-Identifier: GPL-2.0-only
//! PCI identifiers: vendor, device and subsystem numbers, and class codes.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The text is not a PCI identifier or class code in hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}")]
pub struct ParsePciIdError {
    text: String,
    what: &'static str,
}

/// Parses hexadecimal with an optional `0x`, as sysfs writes it, of at most `digits` digits.
fn hex(text: &str, digits: usize, what: &'static str) -> Result<u32, ParsePciIdError> {
    let bare = text.strip_prefix("0x").unwrap_or(text);
    let plain = (1..=digits).contains(&bare.len()) && bare.bytes().all(|b| b.is_ascii_hexdigit());
    plain
        .then(|| u32::from_str_radix(bare, 16).ok())
        .flatten()
        .ok_or_else(|| ParsePciIdError {
            text: text.to_owned(),
            what,
        })
}

/// A 16-bit PCI vendor, device or subsystem id.
///
/// Parses from `0x8086` (as in `/sys/bus/pci/devices/*/vendor`) and `8086`; displays as four hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciId(pub u16);

impl FromStr for PciId {
    type Err = ParsePciIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let what = "PCI id (four hexadecimal digits)";
        let value = hex(text, 4, what)?;
        u16::try_from(value).map(Self).map_err(|_| ParsePciIdError {
            text: text.to_owned(),
            what,
        })
    }
}

impl fmt::Display for PciId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:04x}", self.0)
    }
}

impl Serialize for PciId {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// A PCI class code: base class, subclass and programming interface, 24 bits.
///
/// Parses from `0x010802` (as in `/sys/bus/pci/devices/*/class`); displays as six hexadecimal digits.
///
/// # Invariants
///
/// The value is below 2^24.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciClass(u32);

impl PciClass {
    /// All 24 bits.
    #[must_use]
    pub fn value(self) -> u32 {
        self.0
    }

    /// The base class, for example 0x01 for mass storage.
    #[must_use]
    pub fn base(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The subclass within the base class, for example 0x08 for NVM in mass storage.
    #[must_use]
    pub fn sub(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// Whether the base class is "bridge" (0x06): root ports, switches, host and ISA bridges.
    #[must_use]
    pub fn is_bridge(self) -> bool {
        self.base() == 0x06
    }
}

impl FromStr for PciClass {
    type Err = ParsePciIdError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        // INVARIANT: at most six hexadecimal digits are below 2^24.
        hex(text, 6, "PCI class code (six hexadecimal digits)").map(Self)
    }
}

impl fmt::Display for PciClass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:06x}", self.0)
    }
}

impl Serialize for PciClass {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_parse_with_and_without_prefix() {
        assert_eq!("0x8086".parse(), Ok(PciId(0x8086)));
        assert_eq!("10ee".parse(), Ok(PciId(0x10ee)));
        assert_eq!(PciId(0x1a).to_string(), "001a");
        for text in ["", "0x", "12345", "+123", "xyz"] {
            assert!(text.parse::<PciId>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn class_code_splits_into_its_parts() {
        let nvme: PciClass = "0x010802".parse().unwrap();
        assert_eq!((nvme.base(), nvme.sub()), (0x01, 0x08));
        assert!(!nvme.is_bridge());
        let port: PciClass = "0x060400".parse().unwrap();
        assert!(port.is_bridge());
        assert_eq!(port.to_string(), "060400");
        assert!("0x1060400".parse::<PciClass>().is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! PCI addresses.

use std::fmt;
use std::str::FromStr;

use serde::{Serialize, Serializer};

/// The address of a PCI function: domain, bus, device and function.
///
/// Parses from the full form the kernel uses (`0000:00:1f.2`) and from the short form people use (`00:1f.2`, which
/// means domain 0), and always displays in full. Ordered as the kernel orders them: by domain, bus, device, function.
///
/// # Invariants
///
/// `device` is below 32 and `function` below 8. The domain is 32 bits wide, since the kernel gives the devices behind
/// Intel VMD a domain above 0xffff (`drivers/pci/controller/vmd.c`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PciAddress {
    domain: u32,
    bus: u8,
    device: u8,
    function: u8,
}

/// The text is not a PCI address.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is not a PCI address (expected 0000:00:1f.2 or 00:1f.2)")]
pub struct ParsePciAddressError(String);

/// Parses `text` as hexadecimal with a number of digits in `digits`; no sign, no prefix, no space.
fn hex(text: &str, digits: std::ops::RangeInclusive<usize>) -> Option<u32> {
    let plain = digits.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_hexdigit());
    if plain {
        u32::from_str_radix(text, 16).ok()
    } else {
        None
    }
}

fn parse(text: &str) -> Option<PciAddress> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let device = parts.next()?;
    let bus = parts.next()?;
    let domain = parts.next().map_or(Some(0), |d| hex(d, 4..=8))?;
    if parts.next().is_some() {
        return None;
    }
    let device = hex(device, 2..=2).filter(|d| *d < 32)?;
    let function = hex(function, 1..=1).filter(|f| *f < 8)?;
    // INVARIANT: device and function were just checked against their limits.
    Some(PciAddress {
        domain,
        bus: u8::try_from(hex(bus, 2..=2)?).ok()?,
        device: u8::try_from(device).ok()?,
        function: u8::try_from(function).ok()?,
    })
}

impl FromStr for PciAddress {
    type Err = ParsePciAddressError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse(text).ok_or_else(|| ParsePciAddressError(text.to_owned()))
    }
}

impl fmt::Display for PciAddress {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{:04x}:{:02x}:{:02x}.{:x}",
            self.domain, self.bus, self.device, self.function
        )
    }
}

impl Serialize for PciAddress {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_and_full_forms_are_the_same_address() {
        let short: PciAddress = "00:1f.2".parse().unwrap();
        let full: PciAddress = "0000:00:1F.2".parse().unwrap();
        assert_eq!(short, full);
        assert_eq!(short.to_string(), "0000:00:1f.2");
    }

    #[test]
    fn vmd_domain_survives_a_round_trip() {
        let text = "10000:e1:00.0";
        assert_eq!(text.parse::<PciAddress>().unwrap().to_string(), text);
    }

    #[test]
    fn rejects_what_is_not_an_address() {
        for text in [
            "",
            "3",
            "00:1f",
            "1f.2",
            "0:1f.2",
            "00:20.0",
            "00:1f.8",
            "00:1f.2.3",
            "00:1f.",
            "+0:1f.2",
            "000:00:1f.2",
            "1:0000:00:1f.2",
            "00:1f.2 ",
            "123456789:00:00.0",
        ] {
            assert!(text.parse::<PciAddress>().is_err(), "{text:?} was accepted");
        }
    }

    #[test]
    fn orders_numerically() {
        let mut all: Vec<PciAddress> = ["0001:00:00.0", "0000:10:00.0", "0000:02:1f.7"]
            .iter()
            .map(|t| t.parse().unwrap())
            .collect();
        all.sort();
        assert_eq!(all[0].to_string(), "0000:02:1f.7");
        assert_eq!(all[2].to_string(), "0001:00:00.0");
    }
}

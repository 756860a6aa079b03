// SPDX-License-Identifier: GPL-2.0-only
//! Names for PCI classes, so that people can say `network` instead of `02`.

use std::fmt;
use std::str::FromStr;

use iommuctl_policy::PciClass;

/// Names and the leading hexadecimal digits of the class codes they stand for
/// (`include/linux/pci_ids.h`, `PCI_BASE_CLASS_*` and `PCI_CLASS_*`).
const NAMES: [(&str, &str); 24] = [
    ("storage", "01"),
    ("ide", "0101"),
    ("raid", "0104"),
    ("sata", "0106"),
    ("sas", "0107"),
    ("nvme", "0108"),
    ("network", "02"),
    ("ethernet", "0200"),
    ("infiniband", "0207"),
    ("wifi", "0280"),
    ("display", "03"),
    ("vga", "0300"),
    ("multimedia", "04"),
    ("audio", "0403"),
    ("memory", "05"),
    ("bridge", "06"),
    ("communication", "07"),
    ("system", "08"),
    ("sdhci", "0805"),
    ("serial-bus", "0c"),
    ("usb", "0c03"),
    ("smbus", "0c05"),
    ("wireless", "0d"),
    ("accelerator", "12"),
];

/// Some leading part of a PCI class code: base class, subclass, or all of it.
///
/// # Invariants
///
/// `digits` is two, four or six lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClassFilter {
    digits: String,
}

impl ClassFilter {
    /// Whether `class` begins with these digits.
    #[must_use]
    pub fn matches(&self, class: PciClass) -> bool {
        class.to_string().starts_with(&self.digits)
    }
}

/// The text is neither the name of a class nor hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown class `{text}`: expected two, four or six hexadecimal digits, or one of {}",
    NAMES.map(|(name, _)| name).join(", ")
)]
pub struct ParseClassError {
    text: String,
}

impl FromStr for ClassFilter {
    type Err = ParseClassError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let digits = match NAMES.iter().find(|(name, _)| *name == lower) {
            Some((_, digits)) => (*digits).to_owned(),
            None => lower.strip_prefix("0x").unwrap_or(&lower).to_owned(),
        };
        // INVARIANT: checked here; the digits of NAMES are checked by a test.
        if matches!(digits.len(), 2 | 4 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit()) {
            Ok(Self { digits })
        } else {
            Err(ParseClassError {
                text: text.to_owned(),
            })
        }
    }
}

impl fmt::Display for ClassFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = NAMES.iter().find(|(_, digits)| *digits == self.digits);
        f.write_str(name.map_or(self.digits.as_str(), |(name, _)| name))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_stands_for_sound_digits() {
        for (name, digits) in NAMES {
            let by_name: ClassFilter = name.parse().unwrap();
            assert_eq!(by_name, digits.parse().unwrap());
            assert_eq!(by_name.to_string(), name);
        }
    }

    #[test]
    fn prefixes_match() {
        let nvme: PciClass = "0x010802".parse().unwrap();
        for text in ["storage", "nvme", "0x0108", "010802", "01"] {
            assert!(
                text.parse::<ClassFilter>().unwrap().matches(nvme),
                "{text} does not match"
            );
        }
        assert!(!"sata".parse::<ClassFilter>().unwrap().matches(nvme));
        for text in ["", "1", "010", "0x", "netwrok", "0108021"] {
            assert!(
                text.parse::<ClassFilter>().is_err(),
                "{text:?} was accepted"
            );
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Names for PCI classes, so that people can say `network` instead of `02`.

use std::fmt;
use std::str::FromStr;

use crate::suggest::nearest;
use crate::PciClass;

/// Names and the leading hexadecimal digits of the class codes they stand for
/// (`include/linux/pci_ids.h`, `PCI_BASE_CLASS_*` and `PCI_CLASS_*`).
pub(crate) const NAMES: [(&str, &str); 24] = [
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
/// `digits` is 2, 4 or 6, and `value` has at most as many hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ClassFilter {
    value: u32,
    digits: u8,
}

impl ClassFilter {
    /// Whether `class` begins with these digits.
    #[must_use]
    pub fn matches(self, class: PciClass) -> bool {
        let rest = 6 - u32::from(self.digits);
        class.value() >> (4 * rest) == self.value
    }

    /// Whether only bridges can match: the base class is 0x06.
    #[must_use]
    pub fn is_bridge(self) -> bool {
        self.value >> (4 * (u32::from(self.digits) - 2)) == 0x06
    }
}

/// The text is neither the name of a class nor hexadecimal.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown class `{text}`: expected two, four or six hexadecimal digits, or one of {}{}",
    NAMES.map(|(name, _)| name).join(", "),
    nearest(text, NAMES.map(|(name, _)| name)).map(|n| format!(" (did you mean `{n}`?)")).unwrap_or_default()
)]
pub struct ParseClassError {
    text: String,
}

/// The class code that `digits` begin; `None` unless they are two, four or six hexadecimal digits.
fn from_hex(digits: &str) -> Option<ClassFilter> {
    let plain = matches!(digits.len(), 2 | 4 | 6) && digits.bytes().all(|b| b.is_ascii_hexdigit());
    // INVARIANT: just checked.
    Some(ClassFilter {
        value: u32::from_str_radix(digits, 16).ok().filter(|_| plain)?,
        digits: u8::try_from(digits.len()).ok()?,
    })
}

impl FromStr for ClassFilter {
    type Err = ParseClassError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let lower = text.to_ascii_lowercase();
        let digits = match NAMES.iter().find(|(name, _)| *name == lower) {
            Some((_, digits)) => digits,
            None => lower.strip_prefix("0x").unwrap_or(&lower),
        };
        from_hex(digits).ok_or_else(|| ParseClassError {
            text: text.to_owned(),
        })
    }
}

impl fmt::Display for ClassFilter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = NAMES
            .iter()
            .find(|(_, digits)| from_hex(digits) == Some(*self));
        match named {
            Some((name, _)) => f.write_str(name),
            None => write!(
                f,
                "{:0width$x}",
                self.value,
                width = usize::from(self.digits)
            ),
        }
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

// SPDX-License-Identifier: GPL-2.0-only
//! The values a policy matches by, as they stand in a file.

use std::fmt;

use serde::Serializer;

use crate::{ClassFilter, Glob, PciAddress, PciId, Removable};

/// What can stand in an [`AnyOf`](crate::AnyOf).
pub trait Word: Sized + fmt::Display {
    /// What is expected, in words.
    const EXPECTED: &'static str;

    /// From text.
    ///
    /// # Errors
    ///
    /// Why it is none, in words.
    fn from_text(text: &str) -> Result<Self, String>;

    /// From a number that stands there without quotes.
    ///
    /// # Errors
    ///
    /// Why it is none, in words.
    fn from_number(number: u64) -> Result<Self, String> {
        Err(format!(
            "{number} is a number here: write \"{number}\", with its quotes"
        ))
    }

    /// Writes it: as text, unless it is a number.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// The name of a driver or a bus.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Name(String);

impl Name {
    /// Takes the name as the kernel has it.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A PCI address, or a pattern for addresses. Both are kept in the form that has a domain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum AddressPattern {
    /// Exactly this one.
    Exact(PciAddress),
    /// All that the pattern matches.
    Like(Glob),
}

impl AddressPattern {
    /// Whether a device with this address, and `name` for its full form, is meant.
    #[must_use]
    pub fn matches(&self, address: PciAddress, name: &str) -> bool {
        match self {
            Self::Exact(wanted) => *wanted == address,
            Self::Like(glob) => glob.matches(name),
        }
    }
}

impl fmt::Display for AddressPattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Exact(address) => address.fmt(f),
            Self::Like(glob) => glob.fmt(f),
        }
    }
}

impl Word for AddressPattern {
    const EXPECTED: &'static str =
        "a PCI address such as \"0000:03:00.0\", or a pattern such as \"0000:03:*\"";

    fn from_text(text: &str) -> Result<Self, String> {
        if !text.contains(['*', '?']) {
            let address = text.parse().map(Self::Exact);
            return address.map_err(|e: crate::ParsePciAddressError| e.to_string());
        }
        let allowed = |c: char| c.is_ascii_hexdigit() || matches!(c, ':' | '.' | '*' | '?');
        if !text.chars().all(allowed) {
            return Err(format!("`{text}` is not a pattern for PCI addresses"));
        }
        // Names in sysfs are lower case, and always have a domain.
        let lower = text.to_ascii_lowercase();
        let short = lower.matches(':').count() == 1 && !lower.starts_with('*');
        let full = if short {
            format!("0000:{lower}")
        } else {
            lower
        };
        Ok(Self::Like(Glob::new(&full)))
    }
}

impl Word for ClassFilter {
    const EXPECTED: &'static str =
        "a PCI class: a name such as nvme, or hexadecimal such as \"0108\"";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|e: crate::ParseClassError| e.to_string())
    }
}

impl Word for PciId {
    const EXPECTED: &'static str = "a PCI id: four hexadecimal digits in quotes, such as \"8086\"";

    fn from_text(text: &str) -> Result<Self, String> {
        text.parse()
            .map_err(|e: crate::ParsePciIdError| e.to_string())
    }
}

impl Word for Name {
    const EXPECTED: &'static str = "a name";

    fn from_text(text: &str) -> Result<Self, String> {
        let sound = !text.is_empty() && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        if sound {
            Ok(Self::new(text))
        } else {
            Err(format!("`{text}` cannot be the name of a driver or a bus"))
        }
    }
}

impl Word for Glob {
    const EXPECTED: &'static str = "text, with * for any text and ? for any one character";

    fn from_text(text: &str) -> Result<Self, String> {
        if text.is_empty() || text.chars().any(char::is_control) {
            return Err(format!("`{text}` matches nothing"));
        }
        Ok(Self::new(text))
    }
}

impl Word for u32 {
    const EXPECTED: &'static str = "the number of a NUMA node";

    fn from_text(text: &str) -> Result<Self, String> {
        Err(format!(
            "`{text}` is text here: write a number, without quotes"
        ))
    }

    fn from_number(number: u64) -> Result<Self, String> {
        Self::try_from(number).map_err(|_| format!("{number} is too large"))
    }

    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*self)
    }
}

impl Word for Removable {
    const EXPECTED: &'static str = "removable, fixed or unknown";

    fn from_text(text: &str) -> Result<Self, String> {
        let all = [Self::Removable, Self::Fixed, Self::Unknown];
        let known = all.into_iter().find(|r| r.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is none of removable, fixed, unknown"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_patterns_get_a_domain() {
        let shown = |text| AddressPattern::from_text(text).unwrap().to_string();
        assert_eq!(shown("03:00.*"), "0000:03:00.*");
        assert_eq!(shown("0001:03:*"), "0001:03:*");
        assert_eq!(shown("*:03:00.0"), "*:03:00.0");
        assert_eq!(shown("03:00.0"), "0000:03:00.0");
        assert!(AddressPattern::from_text("nvme*").is_err());
    }
}

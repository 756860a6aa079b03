// SPDX-License-Identifier: GPL-2.0-only
//! A value of a policy that may be one or a list, of which any may hold.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::{ClassFilter, Glob, PciAddress, PciId, Removable};

/// One or more values.
///
/// # Invariants
///
/// Never empty: an empty list would match nothing, which nobody means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnyOf<T>(Vec<T>);

impl<T> AnyOf<T> {
    /// Just `value`.
    #[must_use]
    pub fn one(value: T) -> Self {
        Self(vec![value])
    }

    /// Whether `holds` is true of any.
    pub fn any(&self, holds: impl FnMut(&T) -> bool) -> bool {
        self.0.iter().any(holds)
    }

    /// Whether `holds` is true of all.
    pub fn all(&self, holds: impl FnMut(&T) -> bool) -> bool {
        self.0.iter().all(holds)
    }
}

impl<T: fmt::Display> fmt::Display for AnyOf<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (n, value) in self.0.iter().enumerate() {
            let before = match n {
                0 => "",
                n if n + 1 == self.0.len() => " or ",
                _ => ", ",
            };
            write!(f, "{before}{value}")?;
        }
        Ok(())
    }
}

impl<T: fmt::Display + Number> Serialize for AnyOf<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.write(serializer),
            many => serializer.collect_seq(many.iter().map(Written)),
        }
    }
}

/// A value, written as [`Number`] says.
struct Written<'a, T>(&'a T);

impl<T: fmt::Display + Number> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
    }
}

/// A value is written as text, unless it is a number.
pub trait Number: fmt::Display {
    /// Writes it.
    ///
    /// # Errors
    ///
    /// Those of the serializer.
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Number for AddressPattern {}
impl Number for ClassFilter {}
impl Number for Glob {}
impl Number for Name {}
impl Number for PciId {}
impl Number for Removable {}
impl Number for u32 {
    fn write<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u32(*self)
    }
}

/// What can stand in an [`AnyOf`].
pub trait Word: Sized {
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
}

impl Word for Removable {
    const EXPECTED: &'static str = "removable, fixed or unknown";

    fn from_text(text: &str) -> Result<Self, String> {
        let all = [Self::Removable, Self::Fixed, Self::Unknown];
        let known = all.into_iter().find(|r| r.as_str() == text);
        known.ok_or_else(|| format!("`{text}` is none of removable, fixed, unknown"))
    }
}

/// One [`Word`], as serde sees it.
struct One<T>(T);

struct OneVisitor<T>(PhantomData<T>);

impl<T: Word> Visitor<'_> for OneVisitor<T> {
    type Value = One<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<One<T>, E> {
        T::from_text(text).map(One).map_err(E::custom)
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<One<T>, E> {
        T::from_number(number).map(One).map_err(E::custom)
    }

    fn visit_f64<E: Error>(self, _: f64) -> Result<One<T>, E> {
        // `10e1` is a number to YAML, and its digits are gone.
        Err(E::custom(format!(
            "this is a number here: write it with quotes (expected {})",
            T::EXPECTED
        )))
    }
}

impl<'de, T: Word> Deserialize<'de> for One<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OneVisitor(PhantomData))
    }
}

struct AnyVisitor<T>(PhantomData<T>);

impl<'de, T: Word> Visitor<'de> for AnyVisitor<T> {
    type Value = AnyOf<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, or a list of such", T::EXPECTED)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<AnyOf<T>, E> {
        let one = OneVisitor(PhantomData).visit_str(text)?;
        Ok(AnyOf::one(one.0))
    }

    fn visit_u64<E: Error>(self, number: u64) -> Result<AnyOf<T>, E> {
        let one = OneVisitor(PhantomData).visit_u64(number)?;
        Ok(AnyOf::one(one.0))
    }

    fn visit_f64<E: Error>(self, number: f64) -> Result<AnyOf<T>, E> {
        let one = OneVisitor(PhantomData).visit_f64(number)?;
        Ok(AnyOf::one(one.0))
    }

    fn visit_unit<E: Error>(self) -> Result<AnyOf<T>, E> {
        Err(E::custom(format!(
            "there is no value here (expected {})",
            T::EXPECTED
        )))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<AnyOf<T>, A::Error> {
        let mut values = Vec::new();
        while let Some(One(value)) = list.next_element()? {
            values.push(value);
        }
        if values.is_empty() {
            return Err(A::Error::custom("an empty list matches nothing"));
        }
        // INVARIANT: just checked.
        Ok(AnyOf(values))
    }
}

impl<'de, T: Word> Deserialize<'de> for AnyOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(AnyVisitor(PhantomData))
    }
}

/// The value of a key that may be left out, but not left empty: `external:` without a value would be a rule about
/// more devices than its reader thinks.
pub(crate) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
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

    #[test]
    fn lists_read_well() {
        let list = AnyOf(vec![Name::new("a"), Name::new("b"), Name::new("c")]);
        assert_eq!(list.to_string(), "a, b or c");
    }
}

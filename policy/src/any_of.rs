// SPDX-License-Identifier: GPL-2.0-only
//! A value of a policy that may be one or a list, of which any may hold.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::word::Word;

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

impl<T: Word> Serialize for AnyOf<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0.as_slice() {
            [one] => one.write(serializer),
            many => serializer.collect_seq(many.iter().map(Written)),
        }
    }
}

/// A value, written as its type says.
struct Written<'a, T>(&'a T);

impl<T: Word> Serialize for Written<'_, T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.write(serializer)
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
    use crate::Name;

    #[test]
    fn lists_read_well() {
        let list = AnyOf(vec![Name::new("a"), Name::new("b"), Name::new("c")]);
        assert_eq!(list.to_string(), "a, b or c");
    }
}

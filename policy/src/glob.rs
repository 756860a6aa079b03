// SPDX-License-Identifier: GPL-2.0-only
//! Patterns for names: `*` stands for any text, `?` for any one character, everything else for itself.
//!
//! No brackets and no escapes: ACPI paths are full of backslashes, and nobody should have to count them.

use std::fmt;

/// A pattern.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Glob(String);

impl Glob {
    /// Takes any text; text without `*` and `?` matches itself alone.
    #[must_use]
    pub fn new(text: &str) -> Self {
        Self(text.to_owned())
    }

    /// The text of the pattern.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Whether `text` is matched as a whole. Takes at most the product of both lengths in steps.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        let pattern = self.0.as_bytes();
        let text = text.as_bytes();
        let (mut p, mut t) = (0, 0);
        // Where to go back to: after the last `*`, with one more byte of text taken by it. Going back to an earlier one
        // can never help, which is what keeps this from becoming exponential.
        let mut retry: Option<(usize, usize)> = None;
        while let Some(byte) = text.get(t) {
            match pattern.get(p) {
                Some(b'*') => {
                    retry = Some((p + 1, t));
                    p += 1;
                }
                Some(wanted) if *wanted == b'?' || wanted == byte => {
                    p += 1;
                    t += 1;
                }
                _ => {
                    let Some((after, taken)) = retry else {
                        return false;
                    };
                    retry = Some((after, taken + 1));
                    p = after;
                    t = taken + 1;
                }
            }
        }
        pattern.iter().skip(p).all(|b| *b == b'*')
    }
}

impl fmt::Display for Glob {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stars_and_question_marks() {
        let cases = [
            ("", "", true),
            ("", "a", false),
            ("*", "", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbb", false),
            ("*ab*ab", "abab", true),
            ("*aab", "aaab", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("a*", "ba", false),
            (r"\_SB.PCI0.RP*", r"\_SB.PCI0.RP05.PXSX", true),
            ("[ab]", "a", false),
        ];
        for (pattern, text, wanted) in cases {
            assert_eq!(Glob::new(pattern).matches(text), wanted, "{pattern} {text}");
        }
    }

    #[test]
    fn many_stars_take_no_exponential_time() {
        let pattern = Glob::new(&"a*".repeat(200));
        assert!(!pattern.matches(&format!("{}b", "b".repeat(4000))));
        assert!(pattern.matches(&"a".repeat(4000)));
    }
}

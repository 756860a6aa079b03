// SPDX-License-Identifier: GPL-2.0-only
//! Text of others, made safe for a terminal.

/// `text` with `?` for each control character, which could move a cursor.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(plain).collect()
}

/// The same for text of several lines: line ends and tabs are kept.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(plain).collect()
}

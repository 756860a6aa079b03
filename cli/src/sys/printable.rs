// SPDX-License-Identifier: GPL-2.0-only
//! Makes text from outside safe for a terminal.

/// Returns `text` with `?` for each control character, which could move a cursor.
#[must_use]
pub fn printable(text: &str) -> String {
    let plain = |c: char| if c.is_control() { '?' } else { c };
    text.chars().map(plain).collect()
}

/// Like [`printable`], for text of several lines: line ends and tabs are kept.
#[must_use]
pub fn printable_lines(text: &str) -> String {
    let plain = |c: char| match c {
        '\n' | '\t' => c,
        c if c.is_control() => '?',
        c => c,
    };
    text.chars().map(plain).collect()
}

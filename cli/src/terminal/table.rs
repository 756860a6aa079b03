// SPDX-License-Identifier: GPL-2.0-only
//! Columns of text.

use std::io::{self, Write};

use anstyle::Style;
use unicode_width::UnicodeWidthStr;

use super::style;

/// The space between columns.
const GAP: usize = 2;

/// A table with `N` columns. Each column is as wide as its widest cell, and the last is not padded.
pub struct Table<const N: usize> {
    heading: [&'static str; N],
    rows: Vec<[(String, Style); N]>,
}

impl<const N: usize> Table<N> {
    /// An empty table.
    pub fn new(heading: [&'static str; N]) -> Self {
        let rows = Vec::new();
        Self { heading, rows }
    }

    /// Adds a row.
    pub fn row(&mut self, cells: [(String, Style); N]) {
        self.rows.push(cells);
    }

    /// Writes it.
    pub fn write(&self, w: &mut dyn Write) -> io::Result<()> {
        let heading = self.heading.map(|text| (text.to_owned(), style::HEADING));
        let mut widths = [0; N];
        for row in std::iter::once(&heading).chain(&self.rows) {
            for (width, (text, _)) in widths.iter_mut().zip(row) {
                *width = text.width().max(*width);
            }
        }
        for row in std::iter::once(&heading).chain(&self.rows) {
            line(w, row, &widths)?;
        }
        Ok(())
    }
}

fn line(w: &mut dyn Write, cells: &[(String, Style)], widths: &[usize]) -> io::Result<()> {
    let mut padding = 0;
    for ((text, style), width) in cells.iter().zip(widths) {
        // Written before the next text, so that no line ends in spaces.
        if !text.is_empty() {
            write!(w, "{:padding$}{style}{text}{style:#}", "")?;
            padding = 0;
        }
        padding += width - text.width() + GAP;
    }
    writeln!(w)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_no_line_ends_in_spaces() {
        let mut table = Table::new(["A", "BB", "C"]);
        let plain = |text: &str| (text.to_owned(), style::PLAIN);
        table.row([plain("long"), plain(""), plain("x")]);
        table.row([plain("é"), plain("b"), plain("")]);
        let mut text = Vec::new();
        table.write(&mut text).unwrap();
        let text = anstream::adapter::strip_bytes(&text).into_vec();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "A     BB  C\nlong      x\né     b\n"
        );
    }
}

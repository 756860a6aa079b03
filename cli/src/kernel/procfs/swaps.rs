// SPDX-License-Identifier: GPL-2.0-only
//! `/proc/swaps` (proc(5)): the swap areas.

use super::Proc;
use crate::sys::kernfs::KernFsError;

/// A swap area.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Swap {
    /// Its path, as it was when it was turned on.
    pub path: String,
    /// Whether it is a file in a file system, and not a block device.
    pub is_file: bool,
}

impl Proc {
    /// All swap areas.
    pub fn swaps(&self) -> Result<Vec<Swap>, KernFsError> {
        let lines = self.lines("swaps")?;
        Ok(lines.iter().skip(1).filter_map(|l| parse(l)).collect())
    }
}

fn parse(line: &str) -> Option<Swap> {
    let mut words = line.split_ascii_whitespace();
    Some(Swap {
        path: unescape(words.next()?),
        is_file: words.next()? == "file",
    })
}

/// Decodes a path, in which spaces and backslashes are octal escapes (`seq_path` in `fs/seq_file.c`).
fn unescape(text: &str) -> String {
    let mut plain = Vec::with_capacity(text.len());
    let mut bytes = text.as_bytes();
    while let [first, rest @ ..] = bytes {
        bytes = rest;
        let code = rest.get(..3).and_then(|c| std::str::from_utf8(c).ok());
        let code = code.and_then(|c| u8::from_str_radix(c, 8).ok());
        match code.filter(|_| *first == b'\\') {
            Some(code) => {
                plain.push(code);
                bytes = rest.get(3..).unwrap_or_default();
            }
            None => plain.push(*first),
        }
    }
    String::from_utf8_lossy(&plain).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_and_devices() {
        let file = parse("/my\\040swap file 2097148 0 -2").unwrap();
        assert_eq!((file.path.as_str(), file.is_file), ("/my swap", true));
        let device =
            parse("/dev/dm-1                               partition\t976\t0\t-3").unwrap();
        assert_eq!((device.path.as_str(), device.is_file), ("/dev/dm-1", false));
        assert_eq!(parse(""), None);
        assert_eq!(unescape("a\\04"), "a\\04");
    }
}

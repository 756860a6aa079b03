// SPDX-License-Identifier: GPL-2.0-only
//! The end of a file of the log: where the next record goes, and whether a write before it was incomplete.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use super::chain::{Hash, Link, Tip, LINE_LIMIT};

/// The end of a file.
pub(super) struct Tail {
    pub(super) tip: Option<Tip>,
    pub(super) torn: Option<Torn>,
    /// Whether only the last newline is missing.
    pub(super) open: bool,
}

/// The bytes of an incomplete write.
pub(super) struct Torn {
    pub(super) bytes: u64,
    pub(super) sha256: Hash,
    /// Whether they end with a newline.
    pub(super) ends: bool,
}

impl Tail {
    /// Searches `file` backwards for the last line that is a record.
    pub(super) fn of(file: &mut File) -> std::io::Result<Self> {
        let length = file.metadata()?.len();
        let mut reach = u64::try_from(LINE_LIMIT).unwrap_or(u64::MAX);
        loop {
            let begin = length.saturating_sub(reach);
            file.seek(SeekFrom::Start(begin))?;
            let mut bytes = Vec::new();
            (&*file).take(length - begin).read_to_end(&mut bytes)?;
            let end = Self::within(&bytes, begin == 0);
            // Extend the part that is searched until it has a record, up to the whole file.
            if end.tip.is_some() || begin == 0 {
                return Ok(end);
            }
            reach = reach.saturating_mul(4);
        }
    }

    /// Searches the last bytes of a file, or all of them.
    fn within(bytes: &[u8], all: bool) -> Self {
        let mut end = bytes.len();
        // The bytes after the last newline are incomplete.
        let mut behind = bytes.iter().rposition(|b| *b == b'\n').map_or(0, |n| n + 1);
        while behind > 0 {
            let newline = behind - 1;
            let before = bytes.get(..newline).unwrap_or_default();
            let start = before.iter().rposition(|b| *b == b'\n').map(|n| n + 1);
            let Some(start) = start.or(all.then_some(0)) else {
                break;
            };
            if let Some(tip) = Tip::of(bytes.get(start..newline).unwrap_or_default()) {
                return Self::behind(tip, bytes.get(behind..end).unwrap_or_default());
            }
            behind = start;
        }
        if !all {
            end = 0;
        }
        let end = Self::behind(Tip::default(), bytes.get(..end).unwrap_or_default());
        Self {
            tip: end.tip.filter(|tip| tip.seq > 0),
            ..end
        }
    }

    /// Takes `waste` after a record into account: it is another record if only its newline is missing.
    fn behind(tip: Tip, waste: &[u8]) -> Self {
        let next = Tip::of(waste).filter(|_| Link::of(waste).is_some_and(|l| l.follows(tip)));
        Self {
            tip: Some(next.unwrap_or(tip)),
            torn: Torn::of(waste).filter(|_| next.is_none()),
            open: next.is_some(),
        }
    }
}

impl Torn {
    fn of(waste: &[u8]) -> Option<Self> {
        let ends = waste.ends_with(b"\n");
        let body = waste.strip_suffix(b"\n").unwrap_or(waste);
        (!waste.is_empty()).then(|| Self {
            bytes: u64::try_from(body.len()).unwrap_or(u64::MAX),
            sha256: Hash::of(body),
            ends,
        })
    }
}

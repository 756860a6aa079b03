// SPDX-License-Identifier: GPL-2.0-only
//! Reads the log line by line, the oldest first, with one line in memory.

use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom, Take};
use std::os::unix::fs::MetadataExt;

use super::chain::{Record, LINE_LIMIT};
use super::file::{LogError, Places, Snapshot};
use crate::audit::event::Event;
use crate::sys::error::{errno, OsError};

/// A line.
#[derive(Debug)]
pub struct Line<'a> {
    /// Its bytes, without the newline.
    pub bytes: &'a [u8],
    /// Whether it ends with a newline. Only the last line of a file can be without one.
    pub whole: bool,
}

/// The position of a reader: the file, and the offset in it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Position {
    inode: u64,
    offset: u64,
}

/// Calls `each` for every line of `snapshot` after `position`, which moves to the end. If the file of `position` was dropped by
/// rotation, reads everything: all remaining files are newer.
pub fn lines(
    snapshot: Snapshot,
    position: &mut Position,
    mut each: impl FnMut(Line<'_>),
) -> Result<(), LogError> {
    let inode = |file: &File| file.metadata().map(|m| m.ino());
    let is_ours = |file: &File| inode(file).is_ok_and(|inode| inode == position.inode);
    let at = snapshot.files.iter().position(|(_, file, _)| is_ours(file));
    let mut bytes = Vec::new();
    for (path, mut file, length) in snapshot.files.into_iter().skip(at.unwrap_or(0)) {
        let failed = |error| {
            LogError::Os(OsError {
                verb: "read",
                path: path.clone(),
                errno: errno(&error),
            })
        };
        let inode = inode(&file).map_err(failed)?;
        if inode != position.inode {
            *position = Position { inode, offset: 0 };
        }
        file.seek(SeekFrom::Start(position.offset))
            .map_err(failed)?;
        let rest = file.take(length.saturating_sub(position.offset));
        let mut reader = BufReader::with_capacity(256 * 1024, rest);
        while let Some(whole) = line(&mut reader, &mut bytes).map_err(failed)? {
            let length = u64::try_from(bytes.len()).unwrap_or(u64::MAX);
            if whole {
                position.offset += length + 1;
            }
            let bytes = &bytes;
            each(Line { bytes, whole });
        }
    }
    Ok(())
}

/// Calls `found` for every event after `position`.
pub fn events(
    places: &Places,
    position: &mut Position,
    mut found: impl FnMut(Event),
) -> Result<(), LogError> {
    each(places, position, |line| {
        if let Some(event) = event(&line) {
            found(event);
        }
    })
}

/// Calls `found` for every line after `position`.
pub fn each(
    places: &Places,
    position: &mut Position,
    found: impl FnMut(Line<'_>),
) -> Result<(), LogError> {
    match Snapshot::take(places)? {
        Some(snapshot) => lines(snapshot, position, found),
        None => Ok(()),
    }
}

/// Reads one line into `bytes`; `None` at the end of the file. A line that is longer than any record is read in pieces, none of
/// which counts as whole.
fn line(reader: &mut BufReader<Take<File>>, bytes: &mut Vec<u8>) -> io::Result<Option<bool>> {
    bytes.clear();
    let limit = u64::try_from(LINE_LIMIT).unwrap_or(u64::MAX);
    if reader.by_ref().take(limit).read_until(b'\n', bytes)? == 0 {
        return Ok(None);
    }
    let whole = bytes.last() == Some(&b'\n');
    if whole {
        bytes.pop();
    }
    Ok(Some(whole))
}

/// The event in a line; `None` if the line is not an event.
#[must_use]
pub fn event(line: &Line<'_>) -> Option<Event> {
    if !line.whole {
        return None;
    }
    let record: Record = serde_json::from_slice(line.bytes).ok()?;
    record.event
}

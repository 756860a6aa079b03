// SPDX-License-Identifier: GPL-2.0-only
//! The chain of records: each line contains the hash of the line before it.
//!
//! A line of the log is one JSON object with `v` (1), `seq` (from 1, without gaps), `prev` (SHA-256 of the bytes of the
//! previous line without its newline; zeros for the first) and either an `event` or a `note` about the log itself. So a
//! manipulated line is detected by the line after it, and a manipulated end by the [`super::head`], which is kept elsewhere.

use std::fmt;
use std::str::FromStr;

use hmac::{Hmac, Mac};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sha2::{Digest, Sha256};

use crate::audit::event::{Event, VERSION};

/// The longest possible line, in bytes. A group with a thousand devices has about 200 KiB.
pub const LINE_LIMIT: usize = 1024 * 1024;

/// A SHA-256, printed in hexadecimal.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Hash([u8; 32]);

impl Hash {
    /// Hashes `bytes`.
    #[must_use]
    pub fn of(bytes: &[u8]) -> Self {
        Self(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// The text is not 64 hexadecimal digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a hash: 64 hexadecimal digits in lower case")]
pub struct ParseHashError;

impl FromStr for Hash {
    type Err = ParseHashError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digit = |b: &u8| match b {
            b'0'..=b'9' => Ok(b - b'0'),
            b'a'..=b'f' => Ok(b - b'a' + 10),
            _ => Err(ParseHashError),
        };
        let mut bytes = [0; 32];
        if text.len() != 64 {
            return Err(ParseHashError);
        }
        for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
            *byte = match pair {
                [high, low] => digit(high)? << 4 | digit(low)?,
                _ => return Err(ParseHashError),
            };
        }
        Ok(Self(bytes))
    }
}

impl Serialize for Hash {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = std::borrow::Cow::<str>::deserialize(deserializer)?;
        text.parse().map_err(serde::de::Error::custom)
    }
}

/// A secret key for anchors.
#[derive(Clone)]
pub struct Key(Hmac<Sha256>);

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key")
    }
}

impl Key {
    /// The shortest key that is accepted, in bytes.
    pub const SHORTEST: usize = 16;

    /// Takes the key from the bytes of a file, without a newline at the end. `None` if it is too short.
    #[must_use]
    pub fn new(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.strip_suffix(b"\n").unwrap_or(bytes);
        if bytes.len() < Self::SHORTEST {
            return None;
        }
        Hmac::new_from_slice(bytes).ok().map(Self)
    }

    /// Authenticates record `seq` with the hash `hash`, and so everything before it.
    #[must_use]
    pub fn anchor(&self, seq: u64, hash: Hash) -> Hash {
        Hash(self.mac(seq, hash).finalize().into_bytes().into())
    }

    /// Whether `mac` is the [`Key::anchor`] of the record. Takes constant time.
    #[must_use]
    pub fn vouches(&self, seq: u64, hash: Hash, mac: Hash) -> bool {
        self.mac(seq, hash).verify_slice(&mac.0).is_ok()
    }

    fn mac(&self, seq: u64, hash: Hash) -> Hmac<Sha256> {
        let mut mac = self.0.clone();
        mac.update(format!("iommuctl audit anchor 1\n{seq}\n{hash}\n").as_bytes());
        mac
    }
}

/// A note about the log itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "about")]
pub enum Note {
    /// The bytes between this line and the record before it were written incompletely, as after a power failure.
    Torn {
        /// How many bytes, without the newline that ends them.
        bytes: u64,
        /// Their hash.
        sha256: Hash,
    },
    /// A new file starts, since the previous one was full.
    Rotated {
        /// The last record that was dropped with the oldest files; 0 if none was.
        dropped: u64,
    },
    /// A log existed, but not the head that says where it ended, so a truncation before this record cannot be detected.
    HeadLost,
    /// The holder of the key authenticates the record before this one.
    Anchor {
        /// [`Key::anchor`] of that record.
        mac: Hash,
    },
    /// The recorder started.
    Started {
        /// Whether `iommu_live` was loaded, so that the kernel reports every write.
        module: bool,
    },
    /// The recorder was told to stop.
    Stopped,
    /// Events were lost, since the socket was full; their effects are found by comparison.
    Overrun,
}

/// A line of the log, for reading.
#[derive(Clone, Debug, PartialEq, Deserialize)]
pub struct Record {
    /// The version of the format.
    pub v: u32,
    /// Its number.
    pub seq: u64,
    /// The hash of the line before it.
    pub prev: Hash,
    /// What happened.
    #[serde(default)]
    pub event: Option<Event>,
    /// The note about the log, if it is not an event.
    #[serde(default)]
    pub note: Option<Note>,
}

/// A line of the log, for writing.
#[derive(Serialize)]
struct Written<'a> {
    v: u32,
    seq: u64,
    prev: Hash,
    #[serde(skip_serializing_if = "Option::is_none")]
    event: Option<&'a Event>,
    #[serde(skip_serializing_if = "Option::is_none")]
    note: Option<&'a Note>,
}

/// The content of a new record.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// An event.
    Event(Box<Event>),
    /// A note about the log.
    Note(Note),
}

/// The end of the chain, after which the next record goes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tip {
    /// The number of the last record; 0 if there is none.
    pub seq: u64,
    /// Its hash.
    pub hash: Hash,
}

impl Tip {
    /// Makes `body` the next record, and appends its line to `text`.
    pub fn push(&mut self, body: &Body, text: &mut Vec<u8>) -> serde_json::Result<()> {
        let (event, note) = match body {
            Body::Event(event) => (Some(&**event), None),
            Body::Note(note) => (None, Some(note)),
        };
        let record = Written {
            v: VERSION,
            seq: self.seq + 1,
            prev: self.hash,
            event,
            note,
        };
        let begin = text.len();
        serde_json::to_writer(&mut *text, &record)?;
        self.seq = record.seq;
        self.hash = Hash::of(text.get(begin..).unwrap_or_default());
        text.push(b'\n');
        Ok(())
    }

    /// The end of a chain whose last record is `line`; `None` if that is not a record.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        let link = Link::of(line)?;
        Some(Self {
            seq: link.seq,
            hash: Hash::of(line),
        })
    }
}

/// The part of a record that makes the chain. The content is skipped, so records of later kinds are accepted.
#[derive(Debug, Deserialize)]
pub struct Link {
    /// As in [`Record`].
    pub v: u32,
    /// As in [`Record`].
    pub seq: u64,
    /// As in [`Record`].
    pub prev: Hash,
    /// The note, since some notes are about the chain.
    #[serde(default)]
    pub note: Option<serde_json::Value>,
}

impl Link {
    /// Parses the link in `line`; `None` if that is not a record.
    #[must_use]
    pub fn of(line: &[u8]) -> Option<Self> {
        serde_json::from_slice(line).ok()
    }

    /// Whether the record was written directly after the record at `tip`.
    #[must_use]
    pub fn follows(&self, tip: Tip) -> bool {
        self.seq == tip.seq + 1 && self.prev == tip.hash
    }

    /// The note, if its kind is known.
    #[must_use]
    pub fn note(&self) -> Option<Note> {
        self.note
            .as_ref()
            .and_then(|note| serde_json::from_value(note.clone()).ok())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hash_survives_a_round_trip() {
        let hash = Hash::of(b"abc");
        let text = hash.to_string();
        assert!(text.starts_with("ba7816bf8f01cfea"));
        assert_eq!(text.parse(), Ok(hash));
        for wrong in ["", "ba78", &text.to_uppercase(), &text.replace('b', "g")] {
            assert_eq!(wrong.parse::<Hash>(), Err(ParseHashError));
        }
    }

    #[test]
    fn each_line_carries_the_hash_of_the_one_before() {
        let mut tip = Tip::default();
        let mut text = Vec::new();
        for _ in 0..3 {
            tip.push(&Body::Note(Note::Stopped), &mut text).unwrap();
        }
        let lines: Vec<&[u8]> = text.split(|b| *b == b'\n').collect();
        let link: Link = serde_json::from_slice(lines[1]).unwrap();
        assert_eq!((link.seq, link.prev), (2, Hash::of(lines[0])));
        assert_eq!(Tip::of(lines[2]), Some(tip));
        assert_eq!(Tip::of(b"{\"v\":1}"), None);
    }

    #[test]
    fn only_the_key_that_made_an_anchor_vouches() {
        let key = Key::new(b"0123456789abcdef\n").unwrap();
        let other = Key::new(b"0123456789abcdeg").unwrap();
        let hash = Hash::of(b"line");
        let mac = key.anchor(7, hash);
        assert!(key.vouches(7, hash, mac));
        assert!(!key.vouches(8, hash, mac));
        assert!(!other.vouches(7, hash, mac));
        assert!(Key::new(b"short").is_none());
    }
}

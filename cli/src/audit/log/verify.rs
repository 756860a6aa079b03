// SPDX-License-Identifier: GPL-2.0-only
//! Verifies the log: finds lines that were edited, removed, swapped or truncated, and those torn by a power failure.
//!
//! Reads one line at a time and keeps only the findings, so the log may have any length. The cases are distinguished like this:
//! a line with the hash of the line before it is in its original place. If it has the right number but not that hash, one of
//! the two was edited. A number that is too high means that lines are missing; if they follow later, they were moved.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::chain::{Hash, Key, Link, Note, Tip, LINE_LIMIT};
use super::file::{LogError, Snapshot};
use super::head::Head;
use super::read::{self, Position};
use crate::audit::event::VERSION;

/// How many findings are listed. A log that was replaced by another one has a finding for each line.
const MAX_FINDINGS: usize = 1000;

/// A deviation from the log that was written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "finding")]
pub enum LogFinding {
    /// A record was edited: its hash is not the one in the record after it, or it is no longer a record.
    Edited {
        /// Its number, by its place.
        seq: u64,
    },
    /// Records are missing.
    Removed {
        /// The first of them.
        from: u64,
        /// The last.
        to: u64,
    },
    /// A record is not in its original place.
    Moved {
        /// Its number.
        seq: u64,
    },
    /// A record occurs twice.
    Repeated {
        /// Its number.
        seq: u64,
    },
    /// A line is not a record, and no note explains it as torn.
    Foreign {
        /// The number of the record before it.
        after: u64,
    },
    /// Records at the end are missing: the head says that more were written.
    Truncated {
        /// The first of them.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The end of the log is not the one in the head.
    Replaced {
        /// The record that differs.
        seq: u64,
    },
    /// The head is not known, so missing records at the end cannot be detected.
    NoHead {
        /// Why.
        why: String,
    },
    /// The head was lost before this record was written, so a truncation before it cannot be detected.
    HeadLost {
        /// Its number.
        seq: u64,
    },
    /// An anchor was not made with the key.
    Forged {
        /// The record it is for.
        seq: u64,
    },
    /// There is a key, but no anchor.
    NoAnchor,
    /// A record is of a later version of the format, and its content is not verified.
    Later {
        /// Its number.
        seq: u64,
    },
}

/// The result of a verification.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How many records there are.
    pub records: u64,
    /// The first of them; 0 if there is none.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// How many incomplete writes a note accounts for.
    pub torn: u64,
    /// Whether the last line is torn, and no note accounts for it yet. That is not tampering.
    pub torn_at_the_end: bool,
    /// The last record that an anchor authenticates; `None` without a key or an anchor.
    pub anchored: Option<u64>,
    /// The findings, in order; at most a thousand.
    pub findings: BTreeSet<LogFinding>,
}

impl Verdict {
    /// Whether the log is intact.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let later = |f: &LogFinding| matches!(f, LogFinding::Later { .. });
        self.findings.iter().all(later)
    }
}

impl Waste {
    /// Whether a note describes these bytes. The newline at their end is not part of them.
    fn is(&self, length: u64, hash: Hash) -> bool {
        let bytes = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        !self.too_long && u64::try_from(bytes.len()) == Ok(length) && Hash::of(bytes) == hash
    }
}

/// Verifies the whole log.
pub fn verify(mut snapshot: Snapshot, key: Option<&Key>) -> Result<Verdict, LogError> {
    let unknown = Err("it was taken".to_owned());
    let head = std::mem::replace(&mut snapshot.head, unknown);
    let mut verifier = Verifier::new(head.as_ref().ok(), key);
    read::lines(snapshot, &mut Position::default(), |line| {
        verifier.line(line.bytes, line.whole);
    })?;
    Ok(verifier.end(head.as_ref().err().cloned()))
}

/// The state of a verification, from the oldest line.
#[derive(Debug)]
struct Verifier<'a> {
    key: Option<&'a Key>,
    head: Option<&'a Head>,
    verdict: Verdict,
    /// The last line that is a record, numbered by its place.
    last: Tip,
    /// Whether it contains the hash of the record before it.
    link_held: bool,
    /// The numbers that are missing so far.
    missing: Ranges,
    /// The bytes since the last record that are not a record.
    waste: Option<Waste>,
    /// The hash of the record that has the number of the head.
    at_head: Option<Hash>,
}

#[derive(Debug, Default)]
struct Waste {
    bytes: Vec<u8>,
    too_long: bool,
    /// Whether they end with a newline.
    whole: bool,
}

impl<'a> Verifier<'a> {
    /// Starts a verification with the head and the key, if there are any.
    fn new(head: Option<&'a Head>, key: Option<&'a Key>) -> Self {
        Self {
            key,
            head,
            verdict: Verdict::default(),
            last: Tip::default(),
            link_held: true,
            missing: Ranges::default(),
            waste: None,
            at_head: None,
        }
    }

    /// Takes the next line, without its newline. `whole` is false for a last line that has none.
    fn line(&mut self, line: &[u8], whole: bool) {
        let link = serde_json::from_slice::<Link>(line);
        match link {
            Ok(link) if whole => self.record(&link, line),
            _ => self.waste(line, whole),
        }
    }

    fn find(&mut self, finding: LogFinding) {
        if self.verdict.findings.len() < MAX_FINDINGS {
            self.verdict.findings.insert(finding);
        }
    }

    fn waste(&mut self, line: &[u8], whole: bool) {
        let waste = self.waste.get_or_insert_default();
        if waste.bytes.len() + line.len() > 16 * LINE_LIMIT {
            waste.too_long = true;
            return;
        }
        waste.bytes.extend_from_slice(line);
        waste.whole = whole;
        if whole {
            waste.bytes.push(b'\n');
        }
    }

    fn record(&mut self, link: &Link, line: &[u8]) {
        let note = link.note();
        if self.verdict.records == 0 {
            self.verdict.first = link.seq;
            self.last = self.origin(link, note.as_ref());
        }
        let expected = self.last.seq + 1;
        let follows = link.prev == self.last.hash;
        let waste = self.waste.take();
        let torn = matches!((&waste, &note), (Some(waste), Some(Note::Torn { bytes, sha256 }))
            if waste.is(*bytes, *sha256));
        self.verdict.torn += u64::from(torn);
        // A line that is not a record, in the place of a missing record, is that record, edited.
        let foreign = waste.is_some() && !torn;
        if link.follows(self.last) {
            if foreign {
                let after = self.last.seq;
                self.find(LogFinding::Foreign { after });
            }
        } else if follows || (foreign && link.seq == expected + 1) {
            // The record is in its original place, so its number was edited; or it follows a record that was edited.
            self.find(LogFinding::Edited { seq: expected });
        } else if link.seq == expected {
            self.find_edited(expected);
        } else if link.seq > expected {
            self.missing.add(expected, link.seq - 1);
        } else if self.missing.remove(link.seq) {
            self.find(LogFinding::Moved { seq: link.seq });
        } else {
            self.find(LogFinding::Repeated { seq: link.seq });
        }
        if link.v > VERSION {
            self.find(LogFinding::Later { seq: link.seq });
        }
        match note {
            Some(Note::Anchor { mac }) => self.anchor(mac),
            Some(Note::HeadLost) => self.find(LogFinding::HeadLost { seq: link.seq }),
            _ => {}
        }
        let seq = if follows { expected } else { link.seq };
        let hash = Hash::of(line);
        self.link_held = follows;
        // The record with the highest number is the end: a record that was moved here is not.
        if seq > self.last.seq {
            self.last = Tip { seq, hash };
        }
        if self.head.is_some_and(|head| head.tip.seq == seq) {
            self.at_head.get_or_insert(hash);
        }
        self.verdict.records += 1;
    }

    /// The origin before the first line: zeros, or the last record that rotation dropped, which cannot be verified.
    fn origin(&self, first: &Link, note: Option<&Note>) -> Tip {
        let before = first.seq.saturating_sub(1);
        let dropped = match note {
            Some(Note::Rotated { .. }) => self.head.map_or(before, |head| head.dropped),
            _ => 0,
        };
        let known = dropped > 0 && dropped == before;
        Tip {
            seq: dropped,
            hash: if known { first.prev } else { Hash::default() },
        }
    }

    /// Handles a broken link between this record and the one before it. If the record before does not match its own predecessor
    /// either, it was edited; otherwise either of the two may be edited, and the earlier one is reported.
    fn find_edited(&mut self, expected: u64) {
        // With no record before it, the record itself is reported.
        let before = expected.saturating_sub(1).max(1);
        let known = self
            .verdict
            .findings
            .contains(&LogFinding::Edited { seq: before });
        if self.link_held && !known {
            self.find(LogFinding::Edited { seq: before });
        } else if !self.link_held {
            // The link before was broken by an edit of that record's own `prev`.
            let earlier = LogFinding::Edited {
                seq: before.saturating_sub(1),
            };
            self.verdict.findings.remove(&earlier);
            self.find(LogFinding::Edited { seq: before });
        }
    }

    fn anchor(&mut self, mac: Hash) {
        let (Some(key), last) = (self.key, self.last) else {
            return;
        };
        if key.vouches(last.seq, last.hash, mac) {
            self.verdict.anchored = Some(last.seq);
        } else {
            self.find(LogFinding::Forged { seq: last.seq });
        }
    }

    /// Handles the end of the log.
    fn end(mut self, no_head: Option<String>) -> Verdict {
        let last = self.last;
        self.verdict.last = last.seq;
        for (from, to) in std::mem::take(&mut self.missing).0 {
            self.find(LogFinding::Removed { from, to });
        }
        if let Some(head) = self.head.map(|head| head.tip) {
            self.compare(last, head);
        } else {
            self.verdict.torn_at_the_end = self.waste.is_some();
        }
        if let Some(why) = no_head {
            self.find(LogFinding::NoHead { why });
        }
        if self.key.is_some() && self.verdict.anchored.is_none() && self.verdict.records > 0 {
            self.find(LogFinding::NoAnchor);
        }
        self.verdict
    }

    /// Compares the end of the log with the head.
    fn compare(&mut self, last: Tip, head: Tip) {
        let waste = self.waste.take();
        if head.seq > last.seq {
            // The head was written after complete records, so a missing one was truncated and not torn; a line with a newline
            // was edited.
            let edited = waste.is_some_and(|waste| waste.whole);
            let from = last.seq + 1;
            if edited {
                self.find(LogFinding::Edited { seq: from });
            }
            let from = from + u64::from(edited);
            if from <= head.seq {
                let to = head.seq;
                self.find(LogFinding::Truncated { from, to });
            }
            return;
        }
        self.verdict.torn_at_the_end = waste.is_some();
        if self.at_head.is_some_and(|hash| hash != head.hash) {
            // If this is the last record, no later hash contradicts it, and only this one was edited.
            self.find(match head.seq == last.seq {
                true => LogFinding::Edited { seq: head.seq },
                false => LogFinding::Replaced { seq: head.seq },
            });
        }
    }
}

/// A set of numbers, as ranges: the first of each, and the last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn add(&mut self, from: u64, to: u64) {
        self.0.insert(from, to);
    }

    /// Removes `number`, and returns whether it was in the set.
    fn remove(&mut self, number: u64) -> bool {
        let range = self.0.range(..=number).next_back();
        let Some((from, to)) = range.map(|(from, to)| (*from, *to)) else {
            return false;
        };
        if number > to {
            return false;
        }
        self.0.remove(&from);
        if from < number {
            self.0.insert(from, number - 1);
        }
        if number < to {
            self.0.insert(number + 1, to);
        }
        true
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Whether the log is as it was written: what was edited, removed, swapped or cut off, and what a power cut tore.
//!
//! Looks at one line after the other, and keeps nothing of them but what is wrong, so the log may be of any length. How
//! the cases are told apart: a line that carries the hash of the line before it stands where it was written. If it has the
//! right number and does not, one of the two was edited. A number that comes too early means that lines are missing; if they
//! come later, they were moved.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use super::chain::{Hash, Key, Link, Note, Tip, LINE_LIMIT};
use super::file::{LogError, Snapshot};
use super::head::Head;
use super::read::{self, Position};
use crate::audit::event::VERSION;

/// How many findings are listed. A log that was replaced by another has one for each line.
const MAX_FINDINGS: usize = 1000;

/// Something that should not be.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case", tag = "finding")]
pub enum LogFinding {
    /// A record is not what was written: its hash is not what the one after it says, or it is no record any more.
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
    /// A record does not stand where it was written.
    Moved {
        /// Its number.
        seq: u64,
    },
    /// A record is there twice.
    Repeated {
        /// Its number.
        seq: u64,
    },
    /// A line is no record, and none was torn there.
    Foreign {
        /// The number of the record before it.
        after: u64,
    },
    /// Records at the end are missing: more were written.
    Truncated {
        /// The first of them.
        from: u64,
        /// The last.
        to: u64,
    },
    /// The end of the log is not the one that was written.
    Replaced {
        /// The record that differs.
        seq: u64,
    },
    /// What was written last is not known, so what may be missing at the end is not either.
    NoHead {
        /// Why.
        why: String,
    },
    /// When this record was written, it was not known where the log had ended: what was cut off before it does not show.
    HeadLost {
        /// Its number.
        seq: u64,
    },
    /// An anchor is not by the holder of the key.
    Forged {
        /// The record it is for.
        seq: u64,
    },
    /// There is a key, and nothing is anchored with it.
    NoAnchor,
    /// A record is of a later version of the format, and its contents are not judged.
    Later {
        /// Its number.
        seq: u64,
    },
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verdict {
    /// How many records there are.
    pub records: u64,
    /// The first of them; 0 if there is none.
    pub first: u64,
    /// The last.
    pub last: u64,
    /// How often what was written was torn, and is accounted for.
    pub torn: u64,
    /// Whether the last line is torn, and not accounted for yet. That is no tampering.
    pub torn_at_the_end: bool,
    /// The last record that the holder of the key vouches for; `None` without a key or an anchor.
    pub anchored: Option<u64>,
    /// What should not be, in order; at most a thousand.
    pub findings: BTreeSet<LogFinding>,
}

impl Verdict {
    /// Whether nothing speaks against the log.
    #[must_use]
    pub fn is_intact(&self) -> bool {
        let later = |f: &LogFinding| matches!(f, LogFinding::Later { .. });
        self.findings.iter().all(later)
    }
}

impl Waste {
    /// Whether a note is about this. The newline at its end is not part of it.
    fn is(&self, length: u64, hash: Hash) -> bool {
        let bytes = self.bytes.strip_suffix(b"\n").unwrap_or(&self.bytes);
        !self.too_long && u64::try_from(bytes.len()) == Ok(length) && Hash::of(bytes) == hash
    }
}

/// Goes through the whole log.
pub fn verify(mut snapshot: Snapshot, key: Option<&Key>) -> Result<Verdict, LogError> {
    let unknown = Err("it was taken".to_owned());
    let head = std::mem::replace(&mut snapshot.head, unknown);
    let mut verifier = Verifier::new(head.as_ref().ok(), key);
    read::lines(snapshot, &mut Position::default(), |line| {
        verifier.line(line.bytes, line.whole);
    })?;
    Ok(verifier.end(head.as_ref().err().cloned()))
}

/// Goes through the log, from its oldest line.
#[derive(Debug)]
struct Verifier<'a> {
    key: Option<&'a Key>,
    head: Option<&'a Head>,
    verdict: Verdict,
    /// The last line that is a record, by its place.
    last: Tip,
    /// Whether it carries the hash of the one before it.
    link_held: bool,
    /// The numbers that were skipped.
    missing: Ranges,
    /// What came since the last record and is none.
    waste: Option<Waste>,
    /// The hash of the record that the head is about, by its number.
    at_head: Option<Hash>,
}

#[derive(Debug, Default)]
struct Waste {
    bytes: Vec<u8>,
    too_long: bool,
    /// Whether a newline ends it.
    whole: bool,
}

impl<'a> Verifier<'a> {
    /// With what is known of its end, and the key, if there is one.
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

    /// The next line, without its newline. `whole` is false for the last one if it has none.
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
        // A line that is no record, where records are missing, is what became of one.
        let foreign = waste.is_some() && !torn;
        if link.follows(self.last) {
            if foreign {
                let after = self.last.seq;
                self.find(LogFinding::Foreign { after });
            }
        } else if follows || (foreign && link.seq == expected + 1) {
            // It stands where it was written, so its number is not what was written; or it follows what was.
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
        // Only the furthest counts as the end: one that was moved here from before is not it.
        if seq > self.last.seq {
            self.last = Tip { seq, hash };
        }
        if self.head.is_some_and(|head| head.tip.seq == seq) {
            self.at_head.get_or_insert(hash);
        }
        self.verdict.records += 1;
    }

    /// What is before the first line of all: nothing, or what was dropped when the log was rotated, which cannot be checked.
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

    /// The link between this record and the one before it is broken. If the one before does not fit to what is before *it*
    /// either, then that one was edited already; if it does, either can be it, and the earlier one is named.
    fn find_edited(&mut self, expected: u64) {
        // With nothing before it, it is itself that differs.
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

    /// Nothing comes any more.
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

    /// The end as it is, and as it was written.
    fn compare(&mut self, last: Tip, head: Tip) {
        let waste = self.waste.take();
        if head.seq > last.seq {
            // What the head knows to have been whole is not torn but cut; a line that ends is there, but not as it was.
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
            // Nothing follows whose hash would fit: then only this one record differs.
            self.find(match head.seq == last.seq {
                true => LogFinding::Edited { seq: head.seq },
                false => LogFinding::Replaced { seq: head.seq },
            });
        }
    }
}

/// Numbers, as ranges: the first of each, and the last.
#[derive(Debug, Default)]
struct Ranges(BTreeMap<u64, u64>);

impl Ranges {
    fn add(&mut self, from: u64, to: u64) {
        self.0.insert(from, to);
    }

    /// Takes `number` out, and says whether it was in.
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

// SPDX-License-Identifier: GPL-2.0-only
//! The history of each device: how long it was in which type, and who changed it.
//!
//! A device is known by where it is plugged in and by its PCI ids: numbers of groups change from boot to boot. What a device
//! was is known from its first record of a boot to the last record of that boot, and no further: the machine may have been
//! off, or nobody watched. Only in the boot that is running the last type lasts until now.
//!
//! The memory this takes depends on how many devices and boots there are, and not on how long the log is.

#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, VecDeque};

use jiff::Timestamp;
use serde::Serialize;

use super::boots::Boots;
use super::changes::Entry;
use super::spans::{Spans, State};
use crate::audit::event::{EventOutcome, Learned, Member};
use crate::audit::sentence;

/// The most changes of one device that are kept: the latest.
const MAX_LISTED: usize = 100;
/// The most who are told apart of those who changed one device.
const MAX_AUTHORS: usize = 32;

/// From when to when, in milliseconds since 1970.
#[derive(Clone, Copy, Debug)]
pub struct Window {
    /// From when; from the first record on if it is `None`.
    pub from: Option<i64>,
    /// To when.
    pub to: i64,
}

impl Window {
    fn has(&self, at: i64) -> bool {
        self.from.is_none_or(|from| at >= from) && at < self.to
    }
}

/// A change, or an attempt, of a device.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Change {
    /// When.
    pub time: Timestamp,
    /// Its group, by its number in that boot.
    pub group: u32,
    /// The type it had.
    pub old_type: Option<String>,
    /// What was asked for.
    pub requested: Option<String>,
    /// The type it had then.
    pub new_type: Option<String>,
    /// How it ended.
    pub outcome: EventOutcome,
    /// How it is known.
    pub learned: Learned,
    /// By whom; `None` if nothing says.
    pub by: Option<String>,
    /// The way it went.
    pub route: Option<String>,
    /// Why it ended so.
    pub message: Option<String>,
    /// For how long the device was without its driver, in milliseconds; `None` if it was not, or is not back.
    pub interrupted_milliseconds: Option<f64>,
}

/// What is counted of a device.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    /// How often its type changed.
    pub changes: u64,
    /// How often that was refused, denied, or stopped before anything was changed.
    pub refusals: u64,
    /// How often it went wrong.
    pub failures: u64,
    /// How often it was another type than the last record says: somebody changed it, and that is not recorded.
    pub unrecorded: u64,
    /// How often it was without its driver for a change.
    pub interruptions: u64,
    /// For how long in all, in milliseconds.
    pub interrupted_milliseconds: f64,
    /// How often it did not come back by itself.
    pub not_back: u64,
}

/// How many changes somebody made.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Author {
    /// Who; `None` if nothing says.
    pub by: Option<String>,
    /// How many.
    pub changes: u64,
}

/// What it is at the moment that is looked at.
#[derive(Clone, Debug)]
struct Open {
    state: State,
    since: i64,
    boot: String,
}

/// The history of one device.
#[derive(Clone, Debug)]
pub struct DeviceHistory {
    /// What was last recorded of it.
    pub member: Member,
    /// What is counted.
    pub counts: Counts,
    /// What it was.
    pub spans: Spans,
    /// The latest changes, in order.
    pub listed: VecDeque<Change>,
    /// How many there were before those.
    pub more: u64,
    authors: BTreeMap<Option<String>, u64>,
    /// What is not told apart any more of them.
    others: u64,
    /// What it is now; `None` if that is not known.
    pub now: Option<State>,
    open: Option<Open>,
}

impl DeviceHistory {
    fn new(member: &Member, window: Window) -> Self {
        Self {
            member: member.clone(),
            counts: Counts::default(),
            spans: Spans::new(window.from, window.to),
            listed: VecDeque::new(),
            more: 0,
            authors: BTreeMap::new(),
            others: 0,
            now: None,
            open: None,
        }
    }

    /// At the time `at` it is `state`, and was `before`, if that is known. Says whether something in between is not
    /// recorded.
    fn becomes(
        &mut self,
        state: State,
        before: Option<State>,
        at: i64,
        boot: &str,
        boots: &Boots,
    ) -> bool {
        let mut since = at;
        let mut unrecorded = false;
        if let Some(open) = self.open.take() {
            if open.boot == boot {
                since = at.max(open.since);
                unrecorded = before.is_some_and(|before| before != open.state);
                let was = if unrecorded {
                    State::NotKnown
                } else {
                    open.state
                };
                self.spans.push(open.since, since, was);
            } else {
                self.end(&open, boots);
            }
        }
        let boot = boot.to_owned();
        self.open = Some(Open { state, since, boot });
        unrecorded
    }

    /// Its last span of a boot.
    fn end(&mut self, open: &Open, boots: &Boots) {
        let last = boots.last(&open.boot).unwrap_or(open.since);
        self.spans.push(open.since, last, open.state);
    }

    /// Nothing comes any more. If the boot `running` is the last that is known of it, it still is what it was.
    fn finish(&mut self, running: &str, to: i64, boots: &Boots) {
        let Some(open) = self.open.take() else { return };
        if open.boot == running {
            self.now = Some(open.state);
            self.spans.push(open.since, to, open.state);
        } else {
            self.end(&open, boots);
        }
    }

    fn count(&mut self, entry: &Entry, at: i64) {
        let event = &entry.event;
        let outcome = entry.outcome();
        let counts = &mut self.counts;
        match outcome {
            EventOutcome::Changed => counts.changes += 1,
            EventOutcome::Refused | EventOutcome::Denied | EventOutcome::Stopped => {
                counts.refusals += 1
            }
            EventOutcome::Failed | EventOutcome::TimedOut => counts.failures += 1,
            EventOutcome::Unchanged | EventOutcome::FirstSeen => {}
        }
        let mut gone = event.interrupted.iter();
        let gone = gone.find(|gone| gone.device == self.member.name);
        if let Some(gone) = gone {
            counts.interruptions += 1;
            counts.interrupted_milliseconds += gone.milliseconds.unwrap_or(0.0);
            counts.not_back += u64::from(gone.milliseconds.is_none());
        }
        if outcome == EventOutcome::Changed {
            self.author(sentence::by_whom(&event.who));
        }
        if matches!(outcome, EventOutcome::Unchanged | EventOutcome::FirstSeen) && gone.is_none() {
            return;
        }
        self.list(Change {
            time: time(at),
            group: event.group,
            old_type: event.old_type.clone(),
            requested: event.requested.clone(),
            new_type: event.new_type.clone(),
            outcome,
            learned: event.learned,
            by: sentence::by(&event.who),
            route: event.route.clone(),
            message: event.message.clone(),
            interrupted_milliseconds: gone.and_then(|gone| gone.milliseconds),
        });
    }

    fn author(&mut self, by: Option<String>) {
        if self.authors.len() < MAX_AUTHORS || self.authors.contains_key(&by) {
            *self.authors.entry(by).or_default() += 1;
        } else {
            self.others += 1;
        }
    }

    fn list(&mut self, change: Change) {
        // What was begun and did not end is told last.
        let later = self.listed.iter().rev();
        let later = later.take_while(|other| other.time > change.time).count();
        self.listed.insert(self.listed.len() - later, change);
        if self.listed.len() > MAX_LISTED {
            self.listed.pop_front();
            self.more += 1;
        }
    }

    /// Who changed it, the busiest first, and how many changes are by others than those.
    #[must_use]
    pub fn authors(&self) -> (Vec<Author>, u64) {
        let mut authors: Vec<Author> = self
            .authors
            .iter()
            .map(|(by, changes)| Author {
                by: by.clone(),
                changes: *changes,
            })
            .collect();
        authors.sort_by_key(|author| std::cmp::Reverse(author.changes));
        (authors, self.others)
    }

    /// Whether it was not strict at any time.
    #[must_use]
    pub fn was_weak(&self) -> bool {
        self.spans.seen().has_weak() || self.counts.unrecorded > 0
    }

    /// Whether anything is known of it in the period.
    fn is_known(&self) -> bool {
        let counts = &self.counts;
        let tried = counts.changes + counts.refusals + counts.failures + counts.unrecorded;
        tried > 0 || self.spans.seen() != super::spans::States::default()
    }
}

/// The time that `at` stands for.
#[must_use]
pub fn time(at: i64) -> Timestamp {
    Timestamp::from_millisecond(at).unwrap_or(if at < 0 {
        Timestamp::MIN
    } else {
        Timestamp::MAX
    })
}

/// Goes through all entries of the log, in order.
#[derive(Debug)]
pub struct History<'a> {
    window: Window,
    boots: &'a Boots,
    devices: BTreeMap<(String, Option<String>), DeviceHistory>,
    /// When something was first recorded.
    first: Option<i64>,
    /// How many changes and attempts name no device: their group was gone.
    nameless: u64,
}

impl<'a> History<'a> {
    /// Nothing yet, of a period.
    #[must_use]
    pub fn new(window: Window, boots: &'a Boots) -> Self {
        Self {
            window,
            boots,
            devices: BTreeMap::new(),
            first: None,
            nameless: 0,
        }
    }

    /// The next entry.
    pub fn take(&mut self, entry: &Entry) {
        let event = &entry.event;
        let at = self.boots.at(event);
        let is_in = self.window.has(at);
        self.first = Some(self.first.map_or(at, |first| first.min(at)));
        if event.devices.is_empty() && is_in {
            self.nameless += 1;
        }
        let before = event.old_type.as_deref().map(State::of);
        for member in &event.devices {
            let key = (member.path.clone(), member.ids.clone());
            let device = self.devices.entry(key);
            let device = device.or_insert_with(|| DeviceHistory::new(member, self.window));
            device.member.clone_from(member);
            if let Some(state) = event.type_now().map(State::of) {
                let unrecorded = device.becomes(state, before, at, &event.boot, self.boots);
                device.counts.unrecorded += u64::from(unrecorded && is_in);
            }
            if is_in {
                device.count(entry, at);
            }
        }
    }

    /// Nothing comes any more, and the boot with the id `running` is.
    #[must_use]
    pub fn finish(self, running: &str) -> Past {
        let to = self.window.to;
        let from = self.window.from.or(self.first).unwrap_or(to).min(to);
        let mut devices: Vec<DeviceHistory> = self.devices.into_values().collect();
        for device in &mut devices {
            device.finish(running, to, self.boots);
        }
        devices.retain(DeviceHistory::is_known);
        // What was not strict is what is looked for.
        devices.sort_by_key(|device| !device.was_weak());
        Past {
            from,
            to,
            devices,
            nameless: self.nameless,
        }
    }
}

/// What there is to tell.
#[derive(Debug)]
pub struct Past {
    /// From when, in milliseconds since 1970.
    pub from: i64,
    /// To when.
    pub to: i64,
    /// The devices: those that were not strict at some time first, then by where they are plugged in.
    pub devices: Vec<DeviceHistory>,
    /// How many changes and attempts name no device.
    pub nameless: u64,
}

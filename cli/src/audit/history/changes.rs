// SPDX-License-Identifier: GPL-2.0-only
//! Merges the records of one change into one entry.
//!
//! `iommuctl` records a change when it begins and when it ends, and the kernel's event for the same write is recorded in
//! between or shortly after. All of them name the process that wrote. Records are kept only while a matching one can still
//! follow, so a log of any length can be processed.

use std::collections::{BTreeMap, VecDeque};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use crate::audit::event::{Event, EventOutcome, Learned, Phase};
use crate::kernel::process::Process;

/// How long the record of a write waits for the other one.
const PAIRING_TIMEOUT: SignedDuration = SignedDuration::from_secs(2);
/// How many entries wait at most.
const MAX_WAITING: usize = 4096;
/// How many reported writes are remembered. The kernel's event follows within a moment, in which there may be hundreds of
/// others.
const MAX_REMEMBERED: usize = 1024;

/// A change, or an attempt.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Entry {
    /// The merged record. If it has no outcome, the change was begun and its end was never recorded: it counts as failed.
    #[serde(flatten)]
    pub event: Event,
    /// Whether the kernel reported the same write.
    pub confirmed: bool,
}

impl Entry {
    /// The outcome. A change without a recorded end counts as failed.
    #[must_use]
    pub fn outcome(&self) -> EventOutcome {
        self.event.outcome.unwrap_or(EventOutcome::Failed)
    }
}

/// The identity of a write in all its records: the boot, the process, and the group. A process writes to many groups, but to
/// each only once.
type Write = (String, Process, u32);

/// Processes events in the order in which they were recorded, and returns entries in that order.
#[derive(Debug, Default)]
pub struct ChangeCorrelator {
    /// The changes that were begun and have not ended, by id.
    open: BTreeMap<String, Event>,
    /// The entries that are about to be returned. The first record of a write waits here for the other one, whichever comes
    /// first, and later entries wait behind it.
    next: VecDeque<Entry>,
    /// The writes that their writers have reported.
    told: VecDeque<Write>,
}

fn write_of(event: &Event) -> Option<Write> {
    Some((event.boot.clone(), event.written_by()?, event.group))
}

impl ChangeCorrelator {
    /// Takes the next event. Calls `each` for every entry that is now complete.
    pub fn tell(&mut self, event: Event, each: &mut dyn FnMut(Entry)) {
        let now = event.time;
        match (event.phase, event.learned) {
            (Phase::Opened, _) => {
                self.open.insert(event.id.clone(), event);
                if self.open.len() > MAX_WAITING {
                    let oldest = self.open.pop_first();
                    self.next
                        .extend(oldest.map(|(_, event)| unconfirmed(event)));
                }
            }
            (Phase::Closed, Learned::Iommuctl) => self.close(event),
            (Phase::Closed, Learned::Kernel) => {
                let write = write_of(&event);
                let is_same = |e: &&mut Entry| !is_by_kernel(e) && write_of(&e.event) == write;
                let own = self.next.iter_mut().find(is_same);
                if let (Some(own), true) = (own, write.is_some()) {
                    own.confirmed = true;
                } else if write.is_none_or(|write| !self.told.contains(&write)) {
                    let confirmed = true;
                    self.next.push_back(Entry { event, confirmed });
                }
            }
            (Phase::Closed, Learned::Comparison) => self.next.push_back(unconfirmed(event)),
        }
        self.release(now, each);
    }

    fn close(&mut self, event: Event) {
        self.open.remove(&event.id);
        let mut confirmed = false;
        if let Some(write) = write_of(&event) {
            let count = self.next.len();
            self.next
                .retain(|e| !is_by_kernel(e) || write_of(&e.event).as_ref() != Some(&write));
            confirmed = self.next.len() < count;
            // Leave out a timeout: the write may still have ended otherwise, and then the kernel's event is needed.
            if event.outcome != Some(EventOutcome::TimedOut) {
                self.told.push_back(write);
                if self.told.len() > MAX_REMEMBERED {
                    self.told.pop_front();
                }
            }
        }
        self.next.push_back(Entry { event, confirmed });
    }

    /// Calls `each` for the first entries, as far as they wait for no other record or have waited too long at the time `now`.
    pub fn release(&mut self, now: Timestamp, each: &mut dyn FnMut(Entry)) {
        let is_over = |first: &Entry| now.duration_since(first.event.time) > PAIRING_TIMEOUT;
        while let Some(first) = self.next.front() {
            if is_waiting(first) && !is_over(first) && self.next.len() <= MAX_WAITING {
                break;
            }
            self.next.pop_front().into_iter().for_each(&mut *each);
        }
    }

    /// Handles the end of the log. A change of a process that `is_alive` is left out: it may still end.
    pub fn end(self, is_alive: impl Fn(&Event) -> bool, each: &mut dyn FnMut(Entry)) {
        self.next.into_iter().for_each(&mut *each);
        let ended = self.open.into_values().filter(|event| !is_alive(event));
        ended.map(unconfirmed).for_each(each);
    }
}

/// Whether the entry comes from the kernel only.
fn is_by_kernel(entry: &Entry) -> bool {
    entry.event.learned == Learned::Kernel
}

/// Whether the other record of the same write may still follow: the writer's, or the kernel's, which exists only for writes
/// that go through the module.
fn is_waiting(entry: &Entry) -> bool {
    let by_module = entry.event.route.as_deref() == Some("module");
    is_by_kernel(entry) || (by_module && !entry.confirmed)
}

fn unconfirmed(event: Event) -> Entry {
    Entry {
        event,
        confirmed: false,
    }
}

#[cfg(test)]
mod tests {
    use iommuctl_policy::GroupId;

    use super::*;
    use crate::audit::event::Moment;

    fn event(id: &str, second: i64, learned: Learned, pid: u32) -> Event {
        let moment = Moment {
            time: Timestamp::from_second(second).unwrap(),
            uptime_ms: 0,
            boot: "b".to_owned(),
        };
        let mut event = Event::new(id.to_owned(), moment, learned, GroupId(3));
        event.outcome = Some(EventOutcome::Changed);
        event.writer = Some(Process { pid, started: 1 });
        event
    }

    fn told(events: Vec<Event>) -> Vec<(String, bool)> {
        let mut entries = Vec::new();
        let mut story = ChangeCorrelator::default();
        let mut each = |entry: Entry| entries.push((entry.event.id, entry.confirmed));
        for event in events {
            story.tell(event, &mut each);
        }
        story.end(|_| false, &mut each);
        entries
    }

    #[test]
    fn one_change_is_one_entry() {
        let begun = || Event {
            phase: Phase::Opened,
            outcome: None,
            ..event("a", 1, Learned::Iommuctl, 7)
        };
        let ended = event("a", 2, Learned::Iommuctl, 7);
        let kernel = event("k", 2, Learned::Kernel, 7);
        let one = |list: Vec<Event>, confirmed| {
            assert_eq!(told(list), [("a".to_owned(), confirmed)]);
        };
        one(vec![begun(), kernel.clone(), ended.clone()], true);
        let by_module = Event {
            route: Some("module".to_owned()),
            ..ended.clone()
        };
        one(vec![begun(), by_module.clone(), kernel.clone()], true);
        one(vec![begun(), by_module], false);
        // Where nothing was waited for, it is still no entry of its own.
        one(vec![begun(), ended, kernel], false);
        one(vec![begun()], false);
    }

    #[test]
    fn one_process_writes_to_many_groups() {
        let of = |id: &str, learned, group| Event {
            group,
            route: Some("module".to_owned()),
            ..event(id, 1, learned, 7)
        };
        let events = vec![
            of("a", Learned::Iommuctl, 3),
            of("k", Learned::Kernel, 4),
            of("l", Learned::Kernel, 3),
            of("b", Learned::Iommuctl, 4),
            of("m", Learned::Kernel, 5),
        ];
        let wanted = [("a", true), ("b", true), ("m", true)];
        assert_eq!(told(events), wanted.map(|(id, yes)| (id.to_owned(), yes)));
    }

    #[test]
    fn what_others_wrote_is_an_entry_of_its_own() {
        let raw = event("k", 1, Learned::Kernel, 9);
        let ours = event("a", 2, Learned::Iommuctl, 7);
        let later = event("c", 9, Learned::Comparison, 0);
        let ids: Vec<String> = told(vec![raw, ours, later])
            .into_iter()
            .map(|e| e.0)
            .collect();
        assert_eq!(ids, ["k", "a", "c"]);
    }
}

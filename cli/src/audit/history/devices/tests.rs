// SPDX-License-Identifier: GPL-2.0-only
//! What is told of a device, from a few entries.

use iommuctl_policy::GroupId;

use super::*;
use crate::audit::event::{Event, Interruption, Moment, Who};

const NIC: &str = "0000:00:05.0";

/// An entry of a boot that began at a time in seconds, about one device.
fn entry(boot: (&str, i64), second: i64, types: (&str, &str), outcome: EventOutcome) -> Entry {
    let moment = Moment {
        time: Timestamp::from_second(boot.1 + second).unwrap(),
        uptime_ms: u64::try_from(1000 * second).unwrap(),
        boot: boot.0.to_owned(),
    };
    let mut event = Event::new("x".to_owned(), moment, Learned::Kernel, GroupId(3));
    event.devices = vec![Member {
        name: NIC.to_owned(),
        path: format!("devices/pci0000:00/{NIC}"),
        ids: Some("8086:100e".to_owned()),
        driver: None,
        external: false,
    }];
    let text = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    (event.old_type, event.new_type) = (text(types.0), text(types.1));
    event.outcome = Some(outcome);
    event.who = Who {
        pid: Some(7),
        command: Some("bash".to_owned()),
        ..Who::default()
    };
    Entry {
        event,
        confirmed: false,
    }
}

fn history(entries: &[Entry], window: (Option<i64>, i64), running: &str) -> Past {
    let mut boots = Boots::default();
    for entry in entries {
        let event = &entry.event;
        boots.learn(event.boot.clone(), event.time, event.uptime_ms);
    }
    let window = Window {
        from: window.0.map(|s| 1000 * s),
        to: 1000 * window.1,
    };
    let mut history = History::new(window, &boots);
    entries.iter().for_each(|entry| history.take(entry));
    history.finish(running)
}

/// Seconds, and what it was.
fn spans(past: &Past) -> Vec<(i64, i64, &'static str)> {
    let spans = past.devices[0].spans.filled(past.from);
    let name = |span: &crate::audit::history::spans::Span| span.states.single().unwrap().as_str();
    spans
        .iter()
        .map(|s| (s.from / 1000, s.to / 1000, name(s)))
        .collect()
}

const A: (&str, i64) = ("a", 1000);
const B: (&str, i64) = ("b", 5000);

fn two_boots() -> Vec<Entry> {
    vec![
        entry(A, 10, ("", "DMA"), EventOutcome::FirstSeen),
        entry(A, 20, ("DMA", "DMA-FQ"), EventOutcome::Changed),
        entry(A, 100, ("DMA-FQ", "DMA-FQ"), EventOutcome::Refused),
        entry(B, 10, ("", "DMA"), EventOutcome::FirstSeen),
    ]
}

#[test]
fn between_two_boots_nothing_is_known() {
    let past = history(&two_boots(), (None, 6000), "b");
    let wanted = [
        (1010, 1020, "DMA"),
        (1020, 1100, "DMA-FQ"),
        (1100, 5010, "not-known"),
        (5010, 6000, "DMA"),
    ];
    assert_eq!(spans(&past), wanted);
    let device = &past.devices[0];
    assert!(device.was_weak());
    assert_eq!((device.counts.changes, device.counts.refusals), (1, 1));
    assert_eq!(device.authors().0[0].by.as_deref(), Some("bash"));
}

#[test]
fn only_what_runs_is_known_until_now() {
    let past = history(&two_boots(), (None, 6000), "c");
    assert_eq!(spans(&past).last(), Some(&(1100, 6000, "not-known")));
    assert_eq!(past.devices[0].now, None);
}

#[test]
fn what_was_before_the_period_reaches_into_it() {
    let past = history(&two_boots(), (Some(1050), 1060), "b");
    assert_eq!(spans(&past), [(1050, 1060, "DMA-FQ")]);
    assert_eq!(past.devices[0].counts.changes, 0);
    assert!(history(&two_boots(), (Some(10), 1000), "b")
        .devices
        .is_empty());
}

#[test]
fn a_change_that_nobody_recorded_shows() {
    let entries = [
        entry(A, 10, ("", "DMA"), EventOutcome::FirstSeen),
        entry(A, 50, ("DMA-FQ", "DMA"), EventOutcome::Changed),
    ];
    let past = history(&entries, (None, 1100), "a");
    let wanted = [(1010, 1050, "not-known"), (1050, 1100, "DMA")];
    assert_eq!(spans(&past), wanted);
    assert_eq!(past.devices[0].counts.unrecorded, 1);
    assert!(past.devices[0].was_weak());
}

#[test]
fn a_denied_write_changes_nothing() {
    let entries = [
        entry(A, 10, ("", "DMA"), EventOutcome::FirstSeen),
        entry(A, 50, ("", "DMA-FQ"), EventOutcome::Denied),
    ];
    let past = history(&entries, (None, 1100), "a");
    assert_eq!(spans(&past), [(1010, 1100, "DMA")]);
    assert!(!past.devices[0].was_weak());
}

#[test]
fn a_long_log_takes_no_more_memory() {
    let mut entries = vec![entry(A, 0, ("", "DMA"), EventOutcome::FirstSeen)];
    for n in 0..3000 {
        let types = match n % 2 {
            0 => ("DMA", "DMA-FQ"),
            _ => ("DMA-FQ", "DMA"),
        };
        let mut change = entry(A, n + 1, types, EventOutcome::Changed);
        change.event.who.command = Some(format!("c{n}"));
        let device = NIC.to_owned();
        let milliseconds = Some(2.0);
        change.event.interrupted = vec![Interruption {
            device,
            milliseconds,
        }];
        entries.push(change);
    }
    let past = history(&entries, (None, 5000), "a");
    let device = &past.devices[0];
    assert_eq!((device.listed.len(), device.more), (MAX_LISTED, 2900));
    let (authors, others) = device.authors();
    assert_eq!((authors.len(), others), (MAX_AUTHORS, 3000 - 32));
    assert_eq!(device.counts.interrupted_milliseconds, 6000.0);
    assert_eq!(device.spans.time()[&State::DmaFq], 1_500_000);
}

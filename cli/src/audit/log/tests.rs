// SPDX-License-Identifier: GPL-2.0-only
//! What becomes of a log that somebody, or a power cut, has been at.

use std::fs;
use std::path::PathBuf;

use iommuctl_policy::GroupId;
use tempfile::TempDir;

use super::chain::{Body, Key, Note};
use super::file::{Log, Places, Rotation, Snapshot, NAME};
use super::read::{self, Position};
use super::verify::{verify, LogFinding, Verdict};
use crate::audit::clock;
use crate::audit::event::{Event, EventOutcome, Learned};

const LARGE: Rotation = Rotation {
    bytes: 1 << 30,
    keep: 2,
};

/// A machine with a log of its own.
struct Machine {
    root: TempDir,
    key: Option<Key>,
}

impl Machine {
    fn new() -> Self {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir_all(root.path().join("var/log")).unwrap();
        fs::create_dir_all(root.path().join("var/lib")).unwrap();
        fs::create_dir_all(root.path().join("run")).unwrap();
        Self { root, key: None }
    }

    fn places(&self) -> Places {
        Places::new(Some(self.root.path()))
    }

    fn log(&self, rotation: Rotation) -> Log {
        Log::new(self.places(), rotation, self.key.clone())
    }

    fn file(&self) -> PathBuf {
        self.root.path().join("var/log/iommuctl").join(NAME)
    }

    fn head(&self) -> PathBuf {
        self.root.path().join("var/lib/iommuctl/audit-head.json")
    }

    fn write(&self, groups: std::ops::Range<u32>) {
        let mut log = self.log(LARGE);
        for group in groups {
            log.append(&[event(group)]).unwrap();
        }
    }

    fn verdict(&self) -> Verdict {
        let snapshot = Snapshot::take(&self.places()).unwrap().unwrap();
        verify(snapshot, self.key.as_ref()).unwrap()
    }

    fn findings(&self) -> Vec<LogFinding> {
        self.verdict().findings.into_iter().collect()
    }

    /// The groups of all events, in the order of the log.
    fn groups(&self) -> Vec<u32> {
        let mut groups = Vec::new();
        let mut position = Position::default();
        read::events(&self.places(), &mut position, |e| groups.push(e.group)).unwrap();
        groups
    }

    fn lines(&self) -> Vec<Vec<u8>> {
        let bytes = fs::read(self.file()).unwrap();
        let lines = bytes.strip_suffix(b"\n").unwrap().split(|b| *b == b'\n');
        lines.map(<[u8]>::to_vec).collect()
    }

    fn put(&self, lines: &[Vec<u8>]) {
        let mut bytes = lines.join(&b'\n');
        bytes.push(b'\n');
        fs::write(self.file(), bytes).unwrap();
    }
}

fn event(group: u32) -> Body {
    let moment = clock::moment("boot");
    let mut event = Event::new(
        format!("1-1-{group}"),
        moment,
        Learned::Iommuctl,
        GroupId(group),
    );
    event.old_type = Some("DMA-FQ".to_owned());
    event.new_type = Some("DMA".to_owned());
    event.outcome = Some(EventOutcome::Changed);
    Body::Event(Box::new(event))
}

/// Numbers that are the same in each run.
struct Dice(u64);

impl Dice {
    fn below(&mut self, n: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 % u64::try_from(n).unwrap()).unwrap()
    }
}

#[test]
fn log_that_nobody_was_at_is_intact() {
    let machine = Machine::new();
    machine.write(0..5);
    machine.write(5..9);
    let verdict = machine.verdict();
    assert!(verdict.is_intact(), "{verdict:?}");
    assert_eq!((verdict.records, verdict.first, verdict.last), (9, 1, 9));
    assert_eq!(machine.groups(), (0..9).collect::<Vec<_>>());
}

#[test]
fn torn_at_every_byte_of_the_last_record() {
    let machine = Machine::new();
    machine.write(0..3);
    let head = fs::read(machine.head()).unwrap();
    let before = fs::read(machine.file()).unwrap();
    machine.write(3..4);
    let whole = fs::read(machine.file()).unwrap();
    for length in before.len()..whole.len() {
        // As the power cut left it: the head is written after the log.
        fs::write(machine.head(), &head).unwrap();
        fs::write(machine.file(), &whole[..length]).unwrap();
        let verdict = machine.verdict();
        assert!(verdict.is_intact(), "{length}: {verdict:?}");
        assert_eq!(verdict.torn_at_the_end, length > before.len(), "{length}");
        // The next one goes on behind it, and nothing that was whole is lost.
        machine.write(7..9);
        let verdict = machine.verdict();
        assert!(verdict.is_intact(), "{length}: {verdict:?}");
        // Without its newline it is still a record.
        let is_record = length + 1 == whole.len();
        let is_torn = length > before.len() && !is_record;
        assert_eq!(verdict.torn, u64::from(is_torn), "{length}");
        let groups: &[u32] = if is_record {
            &[0, 1, 2, 3, 7, 8]
        } else {
            &[0, 1, 2, 7, 8]
        };
        assert_eq!(machine.groups(), groups, "{length}");
    }
    // The same cut, but the head knows better.
    machine.write(9..10);
    let known = fs::read(machine.file()).unwrap();
    fs::write(machine.file(), &known[..known.len() - 7]).unwrap();
    let findings = machine.findings();
    assert!(
        matches!(findings[..], [LogFinding::Truncated { .. }]),
        "{findings:?}"
    );
}

#[test]
fn blocks_of_zeros_are_torn_too() {
    let machine = Machine::new();
    machine.write(0..2);
    let mut bytes = fs::read(machine.file()).unwrap();
    bytes.extend_from_slice(&[0; 5000]);
    bytes.extend_from_slice(b"rest of a line\n\0\0\n");
    bytes.extend_from_slice(&vec![0; 3 << 20]);
    fs::write(machine.file(), bytes).unwrap();
    assert!(machine.verdict().torn_at_the_end);
    machine.write(2..4);
    let verdict = machine.verdict();
    assert!(verdict.is_intact(), "{verdict:?}");
    assert_eq!((verdict.torn, machine.groups()), (1, vec![0, 1, 2, 3]));
}

#[test]
fn what_was_done_is_told_apart() {
    let machine = Machine::new();
    machine.write(0..40);
    let lines = machine.lines();
    let mut dice = Dice(0x9e37_79b9_7f4a_7c15);
    for round in 0..2000 {
        let mut changed = lines.clone();
        let at = dice.below(lines.len());
        let seq = u64::try_from(at + 1).unwrap();
        let has = |findings: &[LogFinding], wanted: &dyn Fn(&LogFinding) -> bool| {
            findings.iter().any(wanted)
        };
        match round % 5 {
            0 => {
                // An edit of any byte. One that makes another line of it is told as that.
                let byte = dice.below(changed[at].len());
                changed[at][byte] = changed[at][byte].wrapping_add(1 + dice.below(255) as u8);
                machine.put(&changed);
                let findings = machine.findings();
                let newline = changed[at].contains(&b'\n');
                let is_edit = |f: &LogFinding| *f == LogFinding::Edited { seq } || newline;
                assert!(
                    has(&findings, &is_edit),
                    "edit of {seq} at {byte}: {findings:?}"
                );
            }
            1 => {
                let length = 1 + dice.below(lines.len() - at);
                changed.drain(at..at + length);
                if changed.is_empty() {
                    continue;
                }
                machine.put(&changed);
                let to = seq + u64::try_from(length).unwrap() - 1;
                let wanted = if to == 40 {
                    LogFinding::Truncated { from: seq, to }
                } else {
                    LogFinding::Removed { from: seq, to }
                };
                assert_eq!(machine.findings(), [wanted]);
            }
            2 => {
                let other = dice.below(lines.len());
                if other == at {
                    continue;
                }
                changed.swap(at, other);
                machine.put(&changed);
                let findings = machine.findings();
                let is_move = |f: &LogFinding| matches!(f, LogFinding::Moved { .. });
                assert!(
                    has(&findings, &is_move),
                    "swap of {at} and {other}: {findings:?}"
                );
                let is_loss = |f: &LogFinding| matches!(f, LogFinding::Removed { .. });
                assert!(
                    !has(&findings, &is_loss),
                    "swap of {at} and {other}: {findings:?}"
                );
            }
            3 => {
                // Cut off anywhere.
                let bytes = lines.join(&b'\n');
                fs::write(machine.file(), &bytes[..dice.below(bytes.len())]).unwrap();
                let findings = machine.findings();
                let is_cut = |f: &LogFinding| matches!(f, LogFinding::Truncated { to: 40, .. });
                assert!(has(&findings, &is_cut), "{findings:?}");
            }
            _ => {
                changed.insert(at, lines[dice.below(lines.len())].clone());
                machine.put(&changed);
                let findings = machine.findings();
                let is_more = |f: &LogFinding| {
                    matches!(f, LogFinding::Repeated { .. } | LogFinding::Moved { .. })
                };
                assert!(has(&findings, &is_more), "{findings:?}");
            }
        }
    }
    machine.put(&lines);
    assert!(machine.verdict().is_intact());
}

#[test]
fn history_that_was_written_anew_does_not_fit_to_the_head() {
    let machine = Machine::new();
    machine.write(0..5);
    let head = fs::read(machine.head()).unwrap();
    fs::remove_file(machine.file()).unwrap();
    fs::remove_file(machine.head()).unwrap();
    machine.write(10..17);
    fs::write(machine.head(), head).unwrap();
    assert_eq!(machine.findings(), [LogFinding::Replaced { seq: 5 }]);
}

#[test]
fn cut_log_stays_cut_when_it_goes_on() {
    let machine = Machine::new();
    machine.write(0..5);
    let lines = machine.lines();
    machine.put(&lines[..3]);
    machine.write(5..6);
    assert_eq!(machine.findings(), [LogFinding::Removed { from: 4, to: 5 }]);
    // Nor does it help to take the head away.
    machine.put(&lines[..3]);
    fs::remove_file(machine.head()).unwrap();
    assert!(matches!(
        machine.findings()[..],
        [LogFinding::NoHead { .. }]
    ));
    machine.write(5..6);
    assert_eq!(machine.findings(), [LogFinding::HeadLost { seq: 4 }]);
}

#[test]
fn without_the_key_no_history_can_be_made_up() {
    let mut machine = Machine::new();
    machine.key = Key::new(b"a secret of sixteen bytes or more");
    machine.write(0..3);
    let verdict = machine.verdict();
    assert!(verdict.is_intact());
    assert_eq!((verdict.last, verdict.anchored), (6, Some(5)));
    // Somebody who has everything but the key writes it all anew.
    let key = std::mem::replace(&mut machine.key, Key::new(b"some other secret of theirs"));
    fs::remove_file(machine.file()).unwrap();
    fs::remove_file(machine.head()).unwrap();
    machine.write(3..6);
    machine.key = key;
    assert!(machine.findings().contains(&LogFinding::Forged { seq: 1 }));
    // Or leaves the anchors out.
    let key = machine.key.take();
    fs::remove_file(machine.file()).unwrap();
    fs::remove_file(machine.head()).unwrap();
    machine.write(3..6);
    machine.key = key;
    assert_eq!(machine.findings(), [LogFinding::NoAnchor]);
}

#[test]
fn rotation_keeps_the_chain_and_says_what_was_dropped() {
    let machine = Machine::new();
    let mut log = machine.log(Rotation {
        bytes: 2000,
        keep: 2,
    });
    for group in 0..60 {
        log.append(&[event(group)]).unwrap();
    }
    let verdict = machine.verdict();
    assert!(verdict.is_intact(), "{verdict:?}");
    assert!(verdict.first > 1, "nothing was dropped: {verdict:?}");
    assert_eq!(machine.groups().last(), Some(&59));
    // What is dropped by somebody else is missed.
    let folder = machine.root.path().join("var/log/iommuctl");
    assert!(!folder.join(format!("{NAME}.3")).exists());
    fs::remove_file(folder.join(format!("{NAME}.2"))).unwrap();
    let findings = machine.findings();
    assert!(
        matches!(findings[..], [LogFinding::Removed { .. }]),
        "{findings:?}"
    );
}

#[test]
fn rotation_that_was_interrupted_is_finished_by_the_next() {
    let machine = Machine::new();
    machine.write(0..5);
    let folder = machine.root.path().join("var/log/iommuctl");
    fs::rename(machine.file(), folder.join(format!("{NAME}.1"))).unwrap();
    machine.write(5..8);
    assert!(machine.verdict().is_intact(), "{:?}", machine.verdict());
    assert_eq!(machine.groups(), (0..8).collect::<Vec<_>>());
}

#[test]
fn many_writers_make_one_chain() {
    let machine = Machine::new();
    std::thread::scope(|scope| {
        for writer in 0..8 {
            let machine = &machine;
            scope.spawn(move || machine.write(writer * 100..writer * 100 + 25));
        }
    });
    let verdict = machine.verdict();
    assert!(verdict.is_intact(), "{verdict:?}");
    assert_eq!(verdict.records, 200);
}

#[test]
fn what_happens_before_there_is_a_log_waits_for_it() {
    let machine = Machine::new();
    fs::remove_dir(machine.root.path().join("var/log")).unwrap();
    machine.write(0..2);
    assert!(Snapshot::take(&machine.places()).unwrap().is_none());
    fs::create_dir(machine.root.path().join("var/log")).unwrap();
    machine.write(2..3);
    assert_eq!(machine.groups(), [0, 1, 2]);
    assert!(machine.verdict().is_intact());
    machine.write(3..4);
    assert_eq!(machine.groups(), [0, 1, 2, 3]);
}

#[test]
fn reader_goes_on_where_it_was() {
    let machine = Machine::new();
    let rotation = Rotation {
        bytes: 2000,
        keep: 50,
    };
    let (mut log, mut position, mut seen) =
        (machine.log(rotation), Position::default(), Vec::new());
    for group in 0..50 {
        log.append(&[event(group)]).unwrap();
        if group % 7 == 0 {
            read::events(&machine.places(), &mut position, |e| seen.push(e.group)).unwrap();
        }
    }
    read::events(&machine.places(), &mut position, |e| seen.push(e.group)).unwrap();
    assert_eq!(seen, (0..50).collect::<Vec<_>>());
}

#[test]
fn notes_of_the_log_are_records_too() {
    let machine = Machine::new();
    let mut log = machine.log(LARGE);
    let notes = [Note::Started { module: true }, Note::Overrun, Note::Stopped];
    log.append(&notes.map(Body::Note)).unwrap();
    assert_eq!(machine.verdict().records, 3);
}

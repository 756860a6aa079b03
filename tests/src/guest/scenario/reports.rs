// SPDX-License-Identifier: GPL-2.0-only
//! Every switch is reported: an event on the group, and counters.

use std::fs::OpenOptions;
use std::io::Write as _;
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};
use nix::unistd::{seteuid, Uid};

use super::{disk, finish, load_live, set_mode, write_type, Scenarios};
use crate::guest::bench::Bench;
pub use crate::guest::live::counter;
use crate::guest::load::Load;
use crate::guest::uevent::{Event, Events};
use crate::guest::{cli, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("reports", reports),
    ("denied", denied),
    ("two-writers", two_writers),
];

/// One switch each way, seen as events and counters.
fn reports(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let load = Load::start(&device)?;
    let events = Events::listen()?;
    let before = (
        counter("tightened")?,
        counter("relaxed")?,
        counter("shimmed_unmaps")?,
    );
    write_type(group, "DMA")?;
    bench.check(
        "tighten-event",
        one(&events, group, "DMA-FQ", "DMA").and_then(|event| from_here(&event)),
    );
    write_type(group, "DMA-FQ")?;
    bench.check(
        "relax-event",
        one(&events, group, "DMA", "DMA-FQ").map(|event| format!("{event:?}")),
    );
    set_mode(&device, group, "DMA")?;
    bench.check(
        "iommuctl-event",
        one(&events, group, "DMA-FQ", "DMA").map(|event| format!("{event:?}")),
    );
    write_type(group, "DMA-FQ")?;
    let after = (
        counter("tightened")?,
        counter("relaxed")?,
        counter("shimmed_unmaps")?,
    );
    bench.check("tightened-counts", exactly(before.0 + 2, after.0));
    bench.check("relaxed-counts", exactly(before.1 + 2, after.1));
    bench.check("unmaps-crossed-switches", more(before.2, after.2));
    bench.check("idle-between-switches", idle(&load));
    bench.check("last-duration", more(0, counter("last_strict_ns")?));
    bench.check(
        "status-shows-the-module",
        cli::iommuctl("status")?.ended(0)?.mentions(&["tightened"]),
    );
    finish(bench, load);
    Ok(())
}

/// A writer without the capabilities gets EACCES, is counted, and named in an event; but not each of a flood of them.
fn denied(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, _) = disk()?;
    write_type(group, "DMA-FQ")?;
    let events = Events::listen()?;
    let before = counter("denied")?;
    let mut file = OpenOptions::new()
        .write(true)
        .open(format!("/sys/kernel/iommu_groups/{group}/type"))?;
    let answer = as_nobody(|| file.write_all(b"DMA\n"))?;
    let errno = answer.err().and_then(|error| error.raw_os_error());
    bench.check(
        "eacces",
        match errno {
            Some(nix::libc::EACCES) => Ok("EACCES"),
            other => Err(anyhow::anyhow!("expected EACCES, got {other:?}")),
        },
    );
    bench.check("denied-counts", exactly(before + 1, counter("denied")?));
    bench.check("event", events.switches().and_then(|list| named(&list)));
    bench.check("flood", flood(&mut file, &events));
    bench.check("still-lazy", pci::expect_type(group, "DMA-FQ"));
    Ok(())
}

/// Does something as root in all but the effective user, and so without effective capabilities.
pub(super) fn as_nobody<T>(work: impl FnOnce() -> T) -> Result<T> {
    seteuid(Uid::from_raw(65534)).context("cannot become nobody")?;
    let done = work();
    seteuid(Uid::from_raw(0)).context("cannot become root again")?;
    Ok(done)
}

/// One event, which says who it was.
fn named(list: &[Event]) -> Result<String> {
    exactly(1, list.len() as u64)?;
    let event = list.first().context("the list was not empty")?;
    let pid = std::process::id().to_string();
    for (key, value) in [
        ("OUTCOME", "denied"),
        ("ERRNO", "13"),
        ("REQUESTED", "DMA"),
        ("WRITER_PID", &pid),
    ] {
        let found = event.get(key).map(String::as_str);
        ensure!(found == Some(value), "{key} should be {value}: {event:?}");
    }
    Ok(format!("{event:?}"))
}

/// A thousand denied writes make no more than twenty events.
fn flood(file: &mut std::fs::File, events: &Events) -> Result<usize> {
    let before = counter("denied")?;
    as_nobody(|| {
        for _ in 0..1000 {
            // Denied, as the one before.
            let _ = file.write_all(b"DMA\n");
        }
    })?;
    exactly(before + 1000, counter("denied")?)?;
    let told = events.switches()?.len();
    ensure!(told <= 40, "{told} events");
    Ok(told)
}

/// Two writers at once: each write is one event, and the events tell one story.
fn two_writers(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let load = Load::start(&device)?;
    let events = Events::listen()?;
    let before = counter("tightened")?;
    let rounds = bench.of(15, 60);
    let written = std::thread::scope(|scope| {
        let write = || -> std::io::Result<()> {
            for _ in 0..rounds {
                pci::write_type(group, "DMA")?;
                pci::write_type(group, "DMA-FQ")?;
            }
            Ok(())
        };
        let other = scope.spawn(write);
        let mine = write();
        match other.join() {
            Ok(theirs) => mine.and(theirs),
            Err(_) => Err(std::io::Error::other("a writer panicked")),
        }
    });
    bench.check(
        "all-writes-succeed",
        written.map(|()| 4 * rounds).map_err(Into::into),
    );
    std::thread::sleep(Duration::from_millis(50));
    let tightened = counter("tightened")? - before;
    bench.check(
        "one-story",
        story(&events.switches()?, 4 * rounds, tightened),
    );
    finish(bench, load);
    Ok(())
}

/// In the order of their numbers, without a gap, each event begins with the type that the one before ended with.
pub(super) fn story(events: &[Event], writes: usize, tightened: u64) -> Result<String> {
    ensure!(
        events.len() == writes,
        "{} events of {writes} writes",
        events.len()
    );
    let number = |event: &Event| -> Result<u64> {
        let text = event.get("SWITCH_SEQ").context("no SWITCH_SEQ")?;
        text.parse().context("SWITCH_SEQ is no number")
    };
    for pair in events.windows(2) {
        let [before, after] = pair else { continue };
        ensure!(
            number(before)? + 1 == number(after)?,
            "a gap: {before:?}, {after:?}"
        );
        ensure!(
            before.get("NEW_TYPE") == after.get("OLD_TYPE"),
            "what was written comes between: {before:?}, {after:?}"
        );
    }
    let is = |event: &&Event, old: &str, new: &str| {
        let has = |key: &str, value: &str| event.get(key).is_some_and(|found| found == value);
        has("OLD_TYPE", old) && has("NEW_TYPE", new)
    };
    let told = events
        .iter()
        .filter(|event| is(event, "DMA-FQ", "DMA"))
        .count();
    exactly(tightened, told as u64)?;
    Ok(format!("{writes} writes, {told} of them tightens"))
}

/// While nothing is switched, no unmap meets the module.
fn idle(load: &Load) -> Result<String> {
    let before = counter("shimmed_unmaps")?;
    load.lap();
    std::thread::sleep(Duration::from_millis(300));
    let done = load.lap().done;
    ensure!(done > 0, "the load did nothing, so this shows nothing");
    exactly(before, counter("shimmed_unmaps")?)?;
    Ok(format!("{done} I/Os, none of them through the module"))
}

/// Whether a count is what it should be.
///
/// # Errors
/// When it is not.
pub fn exactly(wanted: u64, found: u64) -> Result<u64> {
    ensure!(wanted == found, "expected {wanted}, found {found}");
    Ok(found)
}

fn more(before: u64, after: u64) -> Result<u64> {
    ensure!(after > before, "{after} is not more than {before}");
    Ok(after)
}

/// Exactly one event came, for this group, with these types, and it tells of success.
fn one(events: &Events, group: u32, old: &str, new: &str) -> Result<Event> {
    std::thread::sleep(Duration::from_millis(50));
    let list = events.switches()?;
    ensure!(
        list.len() == 1,
        "expected one event, got {}: {list:?}",
        list.len()
    );
    let event = list.into_iter().next().context("the list was not empty")?;
    let devpath = format!("/kernel/iommu_groups/{group}");
    let number = group.to_string();
    let wanted = [
        ("ACTION", "change"),
        ("DEVPATH", devpath.as_str()),
        ("GROUP", &number),
        ("OLD_TYPE", old),
        ("NEW_TYPE", new),
        ("OUTCOME", "done"),
    ];
    for (key, value) in wanted {
        let found = event.get(key).map(String::as_str);
        ensure!(found == Some(value), "{key} should be {value}: {event:?}");
    }
    // How long it took to become strict, and what was flushed for it, is told of a tighten only.
    let mut numbers = vec!["ERRNO", "SWITCH_SEQ", "WRITER_PID", "WRITER_UID"];
    if new == "DMA" {
        numbers.extend(["STRICT_NS", "DRAINED"]);
    }
    for key in numbers {
        let number = event
            .get(key)
            .is_some_and(|value| value.parse::<i64>().is_ok());
        ensure!(number, "{key} is no number: {event:?}");
    }
    Ok(event)
}

/// The event names this process as the writer.
fn from_here(event: &Event) -> Result<String> {
    let writer = event.get("WRITER_UID").map(String::as_str);
    ensure!(writer == Some("0"), "WRITER_UID should be 0: {event:?}");
    let pid = event.get("WRITER_PID").map(String::as_str);
    ensure!(
        pid == Some(&std::process::id().to_string()),
        "WRITER_PID should be {}: {event:?}",
        std::process::id()
    );
    pci::expect_type(pci::group(pci::DISK)?, "DMA")?;
    Ok(format!("{event:?}"))
}

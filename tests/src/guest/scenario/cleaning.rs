// SPDX-License-Identifier: GPL-2.0-only
//! What happens to the machine while a switch is cleaned up, and cannot be: a thread in the kernel never sleeps.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use nix::libc::{EBUSY, EINVAL, EPERM};

use super::leaving::refused;
use super::stragglers::{at_once, read_at_once, tighten};
use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::oracle::Oracle;
use crate::guest::{live, modules, pci, vfio};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("while-cleaning-up", while_cleaning_up)];

/// Something that happens while two disks' switches are cleaned up.
type Event = fn(&Groups) -> Result<String>;

const EVENTS: [(&str, Event); 11] = [
    ("readers-are-answered", reads),
    ("module-stays", stays),
    ("relaxed-in-the-middle", relaxed),
    ("writer-is-killed", killed),
    ("sixty-four-writers", crowd),
    ("function-is-reset", reset),
    ("device-of-another-group-goes", another_goes),
    ("device-goes", goes),
    ("vfio-takes", vfio_takes),
    ("processor-goes", processor_goes),
    ("machine-suspends", suspends),
];

/// The groups of both disks, and that of a card.
struct Groups {
    disk: u32,
    second: u32,
}

/// Each event, while a disk under load and another one are strict, and both switches wait to be cleaned up.
fn while_cleaning_up(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (_, device) = disk()?;
    let load = Load::start(&device)?;
    oracle.spin(1)?;
    let all = EVENTS.iter().try_for_each(|(name, event)| {
        bench.check(name, meanwhile(*event));
        Ok::<_, anyhow::Error>(())
    });
    oracle.spin(0)?;
    all?;
    bench.check("all-is-cleaned-up", cleaned_up());
    finish(bench, load);
    bench.check(
        "unloaded",
        modules::unload(modules::LIVE).map(|()| "and gone"),
    );
    Ok(())
}

fn meanwhile(event: Event) -> Result<String> {
    let groups = Groups {
        disk: pci::group(pci::DISK)?,
        second: pci::group(pci::DISK_TWO)?,
    };
    for group in [groups.disk, groups.second] {
        write_type(group, "DMA-FQ")?;
        tighten(group)?;
    }
    let told = event(&groups)?;
    // Whatever happened, the one that it did not happen to is what it was.
    let group = groups.disk;
    if pci::type_of(group)? != "DMA" {
        tighten(group)?;
    }
    live::expect_step(group, "armed")?;
    read_at_once(group)?;
    readable(pci::DISK_TWO)?;
    Ok(told)
}

/// With nobody in its way, what was begun comes to its end.
fn cleaned_up() -> Result<String> {
    let before = live::counter("cleaned_up")?;
    live::cleaned_up()?;
    let ended = live::counter("cleaned_up")? - before;
    ensure!(ended > 0, "no clean-up came to its end");
    Ok(format!("{ended} clean-ups came to their end"))
}

fn readable(address: &str) -> Result<u64> {
    let load = Load::start(&format!("/dev/{}", pci::block_device(address)?))?;
    std::thread::sleep(Duration::from_millis(100));
    Ok(load.finish()?.done)
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
}

fn reads(groups: &Groups) -> Result<String> {
    let first = read_at_once(groups.disk)?;
    // Long enough for everything that had to wait to be waiting.
    std::thread::sleep(Duration::from_secs(1));
    let later = read_at_once(groups.disk)?;
    Ok(format!(
        "within {first:?}, and after a second within {later:?}"
    ))
}

fn stays(groups: &Groups) -> Result<String> {
    refused(groups.second)?;
    refused(groups.disk)
}

fn relaxed(groups: &Groups) -> Result<String> {
    let group = groups.disk;
    let before = live::counter("relaxed")?;
    let (_, took) = at_once("the relax", move || {
        pci::write_type(group, "DMA-FQ").context("the relax failed")
    })?;
    pci::expect_type(group, "DMA-FQ")?;
    ensure!(live::counter("relaxed")? == before + 1, "it is not counted");
    for _ in 0..20 {
        tighten(group)?;
        at_once("the relax", move || {
            pci::write_type(group, "DMA-FQ").context("the relax failed")
        })?;
    }
    Ok(format!("after {took:?}, and 20 more round trips"))
}

fn killed(groups: &Groups) -> Result<String> {
    const TIMES: usize = 5;
    let file = format!("/sys/kernel/iommu_groups/{}/type", groups.disk);
    let script = format!("while :; do echo DMA > {file}; echo DMA-FQ > {file}; done");
    for _ in 0..TIMES {
        let writer = Command::new("/bin/sh")
            .args(["-c", &script])
            .stdin(Stdio::null())
            .spawn();
        let mut writer = writer.context("cannot start a shell")?;
        std::thread::sleep(Duration::from_millis(300));
        writer.kill().context("cannot kill the writer")?;
        at_once("the end of a killed writer", move || {
            writer.wait().context("cannot wait for the writer")
        })?;
    }
    Ok(format!("{TIMES} writers were gone at once"))
}

fn crowd(groups: &Groups) -> Result<String> {
    const WORDS: [&str; 5] = ["DMA", "DMA-FQ", "identity", "auto", "lazy"];
    let end_at = Instant::now() + Duration::from_secs(2);
    let group = groups.disk;
    let write = |number: usize| -> Result<u64> {
        let mut turn = number;
        let mut done = 0;
        while Instant::now() < end_at {
            let word = WORDS[turn % WORDS.len()];
            turn += 1;
            match pci::write_type(group, word) {
                Ok(()) => done += 1,
                // The disk is in use, so identity and auto are refused.
                Err(error) => ensure!(
                    error
                        .raw_os_error()
                        .is_some_and(|errno| [EPERM, EBUSY, EINVAL].contains(&errno)),
                    "writing `{word}`: {error}"
                ),
            }
        }
        Ok(done)
    };
    let done = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..64)
            .map(|number| scope.spawn(move || write(number)))
            .collect();
        writers
            .into_iter()
            .try_fold(0, |sum, writer| match writer.join() {
                Ok(written) => Ok(sum + written?),
                Err(_) => anyhow::bail!("a writer panicked"),
            })
    })?;
    ensure!(done > 64, "only {done} writes succeeded");
    Ok(format!("{done} writes succeeded"))
}

fn reset(_: &Groups) -> Result<String> {
    let begin = Instant::now();
    write(pci::folder(pci::DISK_TWO).join("reset"), "1")?;
    let took = begin.elapsed();
    // The driver looks at its disk again, and complains when it is interrupted.
    std::thread::sleep(Duration::from_millis(500));
    readable(pci::DISK_TWO)?;
    Ok(format!("it took {took:?}"))
}

/// Removes the second disk, and finds it again.
fn come_and_go() -> Result<Duration> {
    let (_, took) = at_once("the removal", || {
        fs::write(pci::folder(pci::DISK_TWO).join("remove"), "1").context("cannot remove it")
    })?;
    write("/sys/bus/pci/rescan", "1")?;
    pci::block_device(pci::DISK_TWO)?;
    Ok(took)
}

fn goes(groups: &Groups) -> Result<String> {
    let took = come_and_go()?;
    let group = pci::group(pci::DISK_TWO)?;
    // Its successor may be switched like any other.
    write_type(group, "DMA-FQ")?;
    tighten(group)?;
    Ok(format!(
        "after {took:?}; group {} is now {group}",
        groups.second
    ))
}

/// The second disk's group is lazy, and nothing is cleaned up there any more.
fn another_goes(groups: &Groups) -> Result<String> {
    write_type(groups.second, "DMA-FQ")?;
    let took = come_and_go()?;
    Ok(format!("after {took:?}"))
}

fn vfio_takes(groups: &Groups) -> Result<String> {
    let begin = Instant::now();
    vfio::bind(pci::DISK_TWO)?;
    let owned = vfio::Owned::take(groups.second)?;
    live::expect_step(groups.second, "armed")?;
    for wanted in ["DMA-FQ", "DMA"] {
        write_type(groups.second, wanted)?;
    }
    drop(owned);
    vfio::unbind(pci::DISK_TWO)?;
    pci::block_device(pci::DISK_TWO)?;
    live::expect_step(groups.second, "armed")?;
    Ok(format!("and gave it back, in {:?}", begin.elapsed()))
}

fn processor_goes(groups: &Groups) -> Result<String> {
    const TIMES: usize = 3;
    let path = "/sys/devices/system/cpu/cpu1/online";
    // Rings are there for each processor, whether it is or not.
    for _ in 0..TIMES {
        write(path, "0")?;
        write_type(groups.disk, "DMA-FQ")?;
        tighten(groups.disk)?;
        write(path, "1")?;
        live::expect_step(groups.disk, "armed")?;
    }
    Ok(format!("{TIMES} times"))
}

fn suspends(groups: &Groups) -> Result<String> {
    let stop = AtomicBool::new(false);
    let group = groups.second;
    let switch = || -> Result<u64> {
        let mut count = 0;
        while !stop.load(Ordering::Relaxed) {
            for wanted in ["DMA-FQ", "DMA"] {
                pci::write_type(group, wanted)?;
            }
            count += 1;
        }
        Ok(count)
    };
    // Everything but the firmware's part of it.
    write("/sys/power/pm_test", "core")?;
    let count = std::thread::scope(|scope| {
        let writer = scope.spawn(switch);
        let asleep = write("/sys/power/state", "mem");
        stop.store(true, Ordering::Relaxed);
        match writer.join() {
            Ok(count) => asleep.and(count),
            Err(_) => anyhow::bail!("the writer panicked"),
        }
    })?;
    write("/sys/power/pm_test", "none")?;
    live::expect_step(groups.disk, "armed")?;
    Ok(format!(
        "and wakes up; {count} round trips of another group meanwhile"
    ))
}

// SPDX-License-Identifier: GPL-2.0-only
//! Switches while the machine changes under them: processors go, drivers and devices go and come, memory runs out,
//! everybody writes at once.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use nix::libc::{EBUSY, EINVAL, ENODEV, ENOENT, ENOMEM, EPERM};

use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::kernel_log;
use crate::guest::load::Load;
use crate::guest::{modules, pci, vfio};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("processors-go", processors),
    ("driver-goes", driver),
    ("device-goes", removal),
    ("function-reset", reset),
    ("crowd", crowd),
    ("vfio-takes", vfio_takes),
    ("suspends", suspends),
    ("no-memory", memory),
];

/// Switches the group of the device at `address` to and fro until `work` is done, and returns what it returned and how
/// many tightens got through. Writes may fail with `pardoned` errnos, and when the group is not there.
pub(super) fn while_switching<T>(
    address: &str,
    pardoned: &[i32],
    work: impl FnOnce() -> Result<T>,
) -> Result<(T, u64)> {
    let stop = AtomicBool::new(false);
    let tightened = AtomicU64::new(0);
    let switch = || -> Result<()> {
        while !stop.load(Ordering::Relaxed) {
            let Ok(group) = pci::group(address) else {
                std::thread::sleep(Duration::from_millis(5));
                continue;
            };
            for wanted in ["DMA", "DMA-FQ"] {
                match pci::write_type(group, wanted) {
                    Ok(()) if wanted == "DMA" => {
                        tightened.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(()) => {}
                    Err(error) if error.raw_os_error().is_some_and(|e| pardoned.contains(&e)) => {}
                    Err(error) => anyhow::bail!("writing {wanted} to group {group}: {error}"),
                }
            }
        }
        Ok(())
    };
    std::thread::scope(|scope| {
        let writer = scope.spawn(switch);
        let result = work();
        stop.store(true, Ordering::Relaxed);
        match writer.join() {
            Ok(written) => written?,
            Err(_) => anyhow::bail!("the writer panicked"),
        }
        let count = tightened.load(Ordering::Relaxed);
        ensure!(count > 0, "no tighten got through meanwhile");
        Ok((result?, count))
    })
}

fn write(path: impl AsRef<Path>, text: &str) -> Result<()> {
    let path = path.as_ref();
    fs::write(path, text).with_context(|| format!("cannot write {text} to {}", path.display()))
}

fn told((rounds, count): (usize, u64)) -> String {
    format!("{rounds} times, {count} tightens meanwhile")
}

/// A processor goes and comes back.
fn processors(bench: &Bench) -> Result<()> {
    load_live()?;
    let (_, device) = disk()?;
    let load = Load::start(&device)?;
    let rounds = bench.of(10, 40);
    let path = "/sys/devices/system/cpu/cpu1/online";
    let result = while_switching(pci::DISK, &[], || {
        for _ in bench.rounds(rounds) {
            write(path, "0")?;
            std::thread::sleep(Duration::from_millis(50));
            write(path, "1")?;
            std::thread::sleep(Duration::from_millis(50));
        }
        Ok(rounds)
    });
    bench.check("processor-goes-and-comes", result.map(told));
    finish(bench, load);
    end()
}

/// The driver of the second disk is unbound and bound.
fn driver(bench: &Bench) -> Result<()> {
    load_live()?;
    let rounds = bench.of(5, 30);
    let result = while_switching(pci::DISK_TWO, &[EBUSY, EPERM], || {
        for _ in bench.rounds(rounds) {
            write("/sys/bus/pci/drivers/nvme/unbind", pci::DISK_TWO)?;
            write("/sys/bus/pci/drivers/nvme/bind", pci::DISK_TWO)?;
            pci::block_device(pci::DISK_TWO)?;
        }
        Ok(rounds)
    });
    bench.check("driver-goes-and-comes", result.map(told));
    bench.check("still-a-disk", readable());
    end()
}

/// The second disk is removed and found again.
fn removal(bench: &Bench) -> Result<()> {
    load_live()?;
    let rounds = bench.of(5, 30);
    let gone = [EINVAL, ENODEV, ENOENT, EBUSY, EPERM];
    let result = while_switching(pci::DISK_TWO, &gone, || {
        for _ in bench.rounds(rounds) {
            write(pci::folder(pci::DISK_TWO).join("remove"), "1")?;
            write("/sys/bus/pci/rescan", "1")?;
            pci::block_device(pci::DISK_TWO)?;
            std::thread::sleep(Duration::from_millis(100));
        }
        Ok(rounds)
    });
    bench.check("device-goes-and-comes", result.map(told));
    bench.check("still-a-disk", readable());
    end()
}

/// The second disk's function is reset.
fn reset(bench: &Bench) -> Result<()> {
    load_live()?;
    let rounds = bench.of(5, 30);
    let result = while_switching(pci::DISK_TWO, &[EBUSY], || {
        for _ in bench.rounds(rounds) {
            write(pci::folder(pci::DISK_TWO).join("reset"), "1")?;
            // The driver looks at its disk again after each, and complains when it is interrupted.
            std::thread::sleep(Duration::from_millis(500));
        }
        Ok(rounds)
    });
    bench.check("function-reset", result.map(told));
    bench.check("still-a-disk", readable());
    end()
}

/// The second disk goes to a user-space driver and comes back.
fn vfio_takes(bench: &Bench) -> Result<()> {
    load_live()?;
    let rounds = bench.of(3, 10);
    let result = while_switching(pci::DISK_TWO, &[EBUSY, EPERM], || {
        for _ in bench.rounds(rounds) {
            vfio::bind(pci::DISK_TWO)?;
            let owned = vfio::Owned::take(pci::group(pci::DISK_TWO)?)?;
            std::thread::sleep(Duration::from_millis(200));
            drop(owned);
            vfio::unbind(pci::DISK_TWO)?;
            pci::block_device(pci::DISK_TWO)?;
        }
        Ok(rounds)
    });
    bench.check("vfio-takes-and-returns", result.map(told));
    bench.check("switched-while-owned", while_owned());
    bench.check("still-a-disk", readable());
    end()
}

/// While user space owns a group, its devices are in a domain of user space; `type` is that of the default domain, which
/// waits for them. It can be tightened and relaxed there, and is what the devices come back to.
fn while_owned() -> Result<String> {
    let group = pci::group(pci::DISK_TWO)?;
    write_type(group, "DMA-FQ")?;
    vfio::bind(pci::DISK_TWO)?;
    let owned = vfio::Owned::take(group)?;
    let answer = pci::write_type(group, "identity");
    let errno = answer.err().and_then(|error| error.raw_os_error());
    ensure!(
        errno == Some(EPERM),
        "identity: expected EPERM, got {errno:?}"
    );
    pci::expect_type(group, "DMA-FQ")?;
    for wanted in ["DMA", "DMA-FQ", "DMA"] {
        write_type(group, wanted)?;
    }
    drop(owned);
    vfio::unbind(pci::DISK_TWO)?;
    pci::block_device(pci::DISK_TWO)?;
    let told = pci::expect_type(group, "DMA")?;
    write_type(group, "DMA-FQ")?;
    Ok(told)
}

/// The machine goes to sleep and wakes up.
fn suspends(bench: &Bench) -> Result<()> {
    load_live()?;
    let (_, device) = disk()?;
    let load = Load::start(&device)?;
    // Everything but the firmware's part of it.
    write("/sys/power/pm_test", "core")?;
    let rounds = bench.of(2, 6);
    let result = while_switching(pci::DISK, &[], || {
        for _ in bench.rounds(rounds) {
            write("/sys/power/state", "mem")?;
            std::thread::sleep(Duration::from_millis(300));
        }
        Ok(rounds)
    });
    bench.check("suspends-and-resumes", result.map(told));
    write("/sys/power/pm_test", "none")?;
    // The emulated firmware's clock is not all that ACPI wants.
    kernel_log::expect_complaints(true)?;
    let result = while_switching(pci::DISK, &[], || {
        write("/sys/class/rtc/rtc0/wakealarm", "+3")?;
        write("/sys/power/state", "mem")?;
        Ok(1)
    });
    kernel_log::expect_complaints(false)?;
    bench.check("sleeps-and-wakes", result.map(told));
    finish(bench, load);
    end()
}

fn readable() -> Result<String> {
    let device = format!("/dev/{}", pci::block_device(pci::DISK_TWO)?);
    let load = Load::start(&device)?;
    std::thread::sleep(Duration::from_millis(300));
    let figures = load.finish()?;
    ensure!(figures.done > 0, "no I/O was done on {device}");
    Ok(format!("{} I/Os on {device}", figures.done))
}

/// Sixty-four writers of all words there are, and some that are none.
fn crowd(bench: &Bench) -> Result<()> {
    const WORDS: [&str; 6] = ["DMA", "DMA-FQ", "identity", "auto", "lazy", ""];
    load_live()?;
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    let end_at = Instant::now() + Duration::from_secs(bench.of(5, 30) as u64);
    let write = |number: usize| -> Result<()> {
        let mut turn = number;
        while Instant::now() < end_at {
            let word = WORDS[turn % WORDS.len()];
            turn += 1;
            if let Err(error) = pci::write_type(group, word) {
                let errno = error.raw_os_error().unwrap_or_default();
                // The disk is in use, so identity and auto are refused.
                ensure!(
                    [EPERM, EBUSY, EINVAL].contains(&errno),
                    "writing `{word}`: {error}"
                );
            }
        }
        Ok(())
    };
    let result = std::thread::scope(|scope| {
        let writers: Vec<_> = (0..64)
            .map(|number| scope.spawn(move || write(number)))
            .collect();
        writers
            .into_iter()
            .try_for_each(|writer| match writer.join() {
                Ok(written) => written,
                Err(_) => anyhow::bail!("a writer panicked"),
            })
    });
    bench.check("sixty-four-writers", result.map(|()| "no surprise"));
    let left = pci::type_of(group)?;
    ensure!(left == "DMA" || left == "DMA-FQ", "the group reads {left}");
    finish(bench, load);
    end()
}

/// Each allocation of a switch fails in turn. Needs a kernel with fault injection.
fn memory(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    write("/sys/kernel/debug/failslab/verbose", "0")?;
    // Those that may wait for memory, too.
    write("/sys/kernel/debug/failslab/ignore-gfp-wait", "N")?;
    for (from, to) in [("DMA-FQ", "DMA"), ("DMA", "DMA-FQ")] {
        // The kernel says at length that it has no memory.
        kernel_log::expect_complaints(true)?;
        let result = each_allocation(group, from, to);
        kernel_log::expect_complaints(false)?;
        bench.check(&format!("no-memory-for-{to}"), result);
    }
    bench.check("works-afterwards", write_type(group, "DMA"));
    finish(bench, load);
    end()
}

/// Fails the first allocation, then the second, until a switch has fewer.
fn each_allocation(group: u32, from: &str, to: &str) -> Result<String> {
    const MOST: usize = 200;
    let mut failed = 0;
    for number in 1..MOST {
        write_type(group, from)?;
        let (answer, seen) = watched(group, || with_failure(group, to, number))?;
        let now = pci::type_of(group)?;
        match answer {
            (false, written) => {
                written?;
                ensure!(
                    now == to,
                    "a switch without a failure left the group at {now}"
                );
                ensure!(failed > 0, "no allocation made the switch fail");
                return Ok(format!(
                    "{} allocations, {failed} fail the switch",
                    number - 1
                ));
            }
            (true, Ok(())) => ensure!(now == to, "reported done, and the group reads {now}"),
            (true, Err(error)) => {
                ensure!(
                    error.raw_os_error() == Some(ENOMEM),
                    "allocation {number}: {error}"
                );
                ensure!(now == from, "reported as failed, and the group reads {now}");
                ensure!(
                    !seen.contains(to),
                    "allocation {number}: failed, and meanwhile the group read {to}"
                );
                failed += 1;
            }
        }
    }
    anyhow::bail!("a switch makes more than {MOST} allocations")
}

/// Does `work`, and returns what else the group's type read meanwhile.
fn watched<T>(group: u32, work: impl FnOnce() -> Result<T>) -> Result<(T, BTreeSet<String>)> {
    let stop = AtomicBool::new(false);
    let watch = || -> Result<BTreeSet<String>> {
        let mut seen = BTreeSet::new();
        while !stop.load(Ordering::Relaxed) {
            seen.insert(pci::type_of(group)?);
        }
        Ok(seen)
    };
    std::thread::scope(|scope| {
        let watcher = scope.spawn(watch);
        let result = work();
        stop.store(true, Ordering::Relaxed);
        match watcher.join() {
            Ok(seen) => Ok((result?, seen?)),
            Err(_) => anyhow::bail!("the watcher panicked"),
        }
    })
}

/// Writes `to` while allocation `number` of this thread fails: whether one did, and the answer.
fn with_failure(group: u32, to: &str, number: usize) -> Result<(bool, std::io::Result<()>)> {
    let path = "/proc/thread-self/fail-nth";
    // Everything is opened first: an open allocates, too.
    let open = |path: &str| fs::OpenOptions::new().read(true).write(true).open(path);
    let mut counter = open(path).with_context(|| format!("cannot open {path}"))?;
    let mut file = open(&format!("/sys/kernel/iommu_groups/{group}/type"))?;
    let (number, text) = (number.to_string(), format!("{to}\n"));
    counter
        .write_all(number.as_bytes())
        .context("cannot arm fail-nth")?;
    let answer = file.write_all(text.as_bytes());
    // Counts down to 0, where it fails one.
    let mut left = [0; 16];
    let length = counter
        .read_at(&mut left, 0)
        .context("cannot read fail-nth")?;
    counter.write_all(b"0").context("cannot disarm fail-nth")?;
    let hit = left[..length].starts_with(b"0");
    Ok((hit, answer))
}

fn end() -> Result<()> {
    modules::unload(modules::LIVE)
}

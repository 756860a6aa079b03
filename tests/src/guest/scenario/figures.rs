// SPDX-License-Identifier: GPL-2.0-only
//! Figures for `make bench`: what a switch costs whom. Each round has all that is compared, one after the other, so that what
//! slows the machine down slows down all of it.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};

use super::faults::while_switching;
use super::rebind::behind_ports;
use super::reports::counter;
use super::together::{by_iommuctl, took, writers};
use super::{load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::map_benchmark::MapBenchmark;
use crate::guest::oracle::Oracle;
use crate::guest::prober::Prober;
use crate::guest::scheduler::Metronome;
use crate::guest::{modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("figures-gaps", gaps),
    ("figures-strict", strict),
    ("figures-costs", costs),
    ("figures-kernel-map", kernel_map),
    ("figures-many", many),
];

/// How long a disk is watched before a switch, and in all at least.
const BEFORE: Duration = Duration::from_millis(100);
const WATCHED: Duration = Duration::from_millis(500);
/// And after one that takes longer.
const AFTER: Duration = Duration::from_millis(100);
/// How far time may go on at once while a disk is about to answer.
const BEAT: Duration = Duration::from_micros(250);
/// Figures in one line of the report.
const LINE: usize = 64;
/// Pages mapped and unmapped for one figure.
const PAGES: usize = 2048;
/// How often, for one figure.
const TRIES: usize = 8;
/// How long the kernel's own benchmark runs, for one figure: the least it takes.
const BENCHMARK: Duration = Duration::from_secs(1);

/// Samples by what was measured, in which case.
#[derive(Default)]
struct Samples(BTreeMap<(&'static str, String), Vec<u64>>);

impl Samples {
    fn add(&mut self, measurement: &'static str, case: &str, sample: u64) {
        let key = (measurement, case.to_owned());
        self.0.entry(key).or_default().push(sample);
    }

    fn time(&mut self, measurement: &'static str, case: &str, sample: Duration) {
        let nanoseconds = u64::try_from(sample.as_nanos()).unwrap_or(u64::MAX);
        self.add(measurement, case, nanoseconds);
    }

    fn send(&self, bench: &Bench) {
        for ((measurement, case), samples) in &self.0 {
            for line in samples.chunks(LINE) {
                let line: Vec<String> = line.iter().map(u64::to_string).collect();
                bench.fact(&format!("sample:{measurement}:{case}"), line.join(" "));
            }
        }
    }
}

/// The longest time without an I/O, and I/Os that failed: without a switch, with live ones, and with a rebind by hand.
fn gaps(bench: &Bench) -> Result<()> {
    load_live()?;
    let group = pci::group(pci::DISK_TWO)?;
    let mut samples = Samples::default();
    let metronome = Metronome::start(BEAT);
    for _ in bench.rounds(bench.of(15, 60)) {
        write_type(group, "DMA-FQ")?;
        watched(&mut samples, "none", || Ok(()))?;
        let ((), returned) = watched(&mut samples, "live-tighten", || {
            pci::write_type(group, "DMA").context("a live tighten")
        })?;
        samples.add("to-strict", "live", counter("last_strict_ns")?);
        samples.time("to-return", "live", returned);
        watched(&mut samples, "live-relax", || {
            pci::write_type(group, "DMA-FQ").context("a live relax")
        })?;
        let (strict, returned) = watched(&mut samples, "rebind", || by_hand(group))?;
        samples.time("to-strict", "rebind", strict);
        samples.time("to-return", "rebind", returned);
    }
    metronome.end()?;
    write_type(group, "DMA-FQ")?;
    samples.send(bench);
    modules::unload(modules::LIVE)
}

/// Does `switch` to the second disk while it is read from, and returns what came of it, and how long it took.
fn watched<T>(
    samples: &mut Samples,
    case: &str,
    switch: impl FnOnce() -> Result<T>,
) -> Result<(T, Duration)> {
    let prober = Prober::start(pci::DISK_TWO)?;
    std::thread::sleep(BEFORE);
    let begin = Instant::now();
    let result = switch();
    let took = begin.elapsed();
    std::thread::sleep(WATCHED.saturating_sub(BEFORE + took).max(AFTER));
    let seen = prober.finish()?;
    samples.time("gap", case, seen.longest_gap);
    samples.add("failed-count", case, seen.failed);
    Ok((result?, took))
}

/// What people do without the module: unbind, write, bind. How long it took until the group was strict.
fn by_hand(group: u32) -> Result<Duration> {
    let driver = "/sys/bus/pci/drivers/nvme";
    let begin = Instant::now();
    std::fs::write(format!("{driver}/unbind"), pci::DISK_TWO).context("cannot unbind the disk")?;
    let written = pci::write_type(group, "DMA").context("cannot tighten the group of no driver");
    let strict = begin.elapsed();
    std::fs::write(format!("{driver}/bind"), pci::DISK_TWO).context("cannot bind the disk")?;
    pci::block_device(pci::DISK_TWO)?;
    written.map(|()| strict)
}

/// How long a tighten takes until the group is strict, beside the least that it has to do: flush the IOTLB of the same domain once.
fn strict(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let mut samples = Samples::default();
    for _ in bench.rounds(bench.of(40, 200)) {
        write_type(oracle.group, "DMA-FQ")?;
        samples.add("flush", "bare", oracle.flush()?);
        write_type(oracle.group, "DMA")?;
        samples.add("to-strict", "idle", counter("last_strict_ns")?);
        // So that every third clean-up or so comes to its end.
        std::thread::sleep(BEFORE);
    }
    write_type(oracle.group, "DMA-FQ")?;
    samples.send(bench);
    modules::unload(modules::LIVE)
}

/// What a map and an unmap of a page cost: without the module, with it, and while the group is switched to and fro.
fn costs(bench: &Bench) -> Result<()> {
    let oracle = Oracle::attach()?;
    let mut samples = Samples::default();
    with_and_without(bench, bench.of(20, 60), |case| {
        // The least of some: whatever else the machine does comes on top, and is not what is asked for.
        let (mut map, mut unmap) = (u64::MAX, u64::MAX);
        for _ in 0..TRIES {
            let cost = oracle.cost(PAGES)?;
            (map, unmap) = (map.min(cost.map), unmap.min(cost.unmap));
        }
        samples.add("map", case, map);
        samples.add("unmap", case, unmap);
        Ok(())
    })?;
    samples.send(bench);
    Ok(())
}

/// The same from the kernel's own benchmark, where it is built in.
fn kernel_map(bench: &Bench) -> Result<()> {
    let benchmark = MapBenchmark::attach(pci::ORACLE)?;
    // The kernel keeps addresses for reuse, and has none yet.
    benchmark.cost(BENCHMARK)?;
    let mut samples = Samples::default();
    with_and_without(bench, bench.of(6, 20), |case| {
        let cost = benchmark.cost(BENCHMARK)?;
        samples.add("kernel-map", case, cost.map);
        samples.add("kernel-unmap", case, cost.unmap);
        Ok(())
    })?;
    samples.send(bench);
    Ok(())
}

/// Has `measure` look at the oracle's card, whoever has it, in each case.
fn with_and_without(
    bench: &Bench,
    rounds: usize,
    mut measure: impl FnMut(&str) -> Result<()>,
) -> Result<()> {
    let group = pci::group(pci::ORACLE)?;
    let mut measure = |case| {
        // A module that came or went leaves work behind.
        std::thread::sleep(BEFORE);
        measure(case)
    };
    for round in bench.rounds(rounds) {
        // Each comes first as often as second. A lazy group becomes strict with the module only.
        let absent_first = round % 2 == 0;
        if absent_first {
            measure("absent-lazy")?;
        }
        load_live()?;
        measure("loaded-lazy")?;
        write_type(group, "DMA")?;
        if !absent_first {
            modules::unload(modules::LIVE)?;
            measure("absent-strict")?;
            load_live()?;
        }
        measure("loaded-strict")?;
        if absent_first {
            modules::unload(modules::LIVE)?;
            measure("absent-strict")?;
            load_live()?;
        }
        write_type(group, "DMA-FQ")?;
        while_switching(pci::ORACLE, &[], || measure("during"))?;
        modules::unload(modules::LIVE)?;
        if !absent_first {
            measure("absent-lazy")?;
        }
    }
    Ok(())
}

/// How long it takes to tighten many groups at once: by as many writers, and by one command.
fn many(bench: &Bench) -> Result<()> {
    load_live()?;
    let groups = behind_ports()?;
    ensure!(groups.len() >= 64, "there are only {} groups", groups.len());
    let all = pci::groups()?;
    let mut samples = Samples::default();
    for _ in bench.rounds(bench.of(10, 20)) {
        for count in [1, 8, 64, 256] {
            // Disks first; ports have groups, too.
            let others = all.iter().filter(|group| !groups.contains(group));
            let some: Vec<u32> = groups.iter().chain(others).copied().take(count).collect();
            if some.len() < count {
                continue;
            }
            samples.time("together", &count.to_string(), took(&some, writers)?);
            // The groups are strict already.
            let begin = Instant::now();
            writers(&some)?;
            samples.time("together-unchanged", &count.to_string(), begin.elapsed());
            samples.time("set-mode", &count.to_string(), took(&some, by_iommuctl)?);
        }
    }
    for group in &all {
        write_type(*group, "DMA-FQ")?;
    }
    samples.send(bench);
    modules::unload(modules::LIVE)
}

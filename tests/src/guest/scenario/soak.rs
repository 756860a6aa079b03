// SPDX-License-Identifier: GPL-2.0-only
//! A great many round trips: every disk of the machine in a group of its own, each switched without a pause, each at
//! work. Then the disks are removed, and their domains with them: memory is what it was.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};

use super::{finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::{open, Load, Page};
use crate::guest::oracle::Oracle;
use crate::guest::{init, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("soak", soak)];

/// How often each of the many disks is read from.
const PAUSE: Duration = Duration::from_millis(50);

/// Round trips of every group at once.
fn soak(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let device = format!("/dev/{}", pci::block_device(pci::DISK)?);
    let wanted = match init::word("iommuctl.rounds") {
        Some(text) => text.parse().context("iommuctl.rounds is no number")?,
        None => bench.of(300, 10_000) as u64,
    };
    come_and_go()?;
    let before = Memory::now()?;
    let disks = disks()?;
    let load = Load::start(&device)?;
    let result = round_trips(bench, &oracle, &disks, wanted);
    bench.check("round-trips", result);
    finish(bench, load);
    bench.check("come-and-go", come_and_go());
    bench.check("memory-is-what-it-was", before.compare(&Memory::now()?));
    modules::unload(modules::LIVE)
}

/// Addresses of all NVMe disks.
fn disks() -> Result<Vec<String>> {
    let path = "/sys/bus/pci/drivers/nvme";
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {path}"))?;
    let names = entries.flatten().map(|entry| entry.file_name());
    let mut list: Vec<String> = names
        .map(|name| name.to_string_lossy().into_owned())
        .filter(|name| name.starts_with("0000:"))
        .collect();
    list.sort();
    Ok(list)
}

/// Those that only this machine has.
fn removable() -> Result<Vec<String>> {
    let mut list = disks()?;
    list.retain(|address| ![pci::DISK, pci::DISK_TWO].contains(&address.as_str()));
    Ok(list)
}

/// Removes every disk that can be spared, which frees its domain, and finds it again.
fn come_and_go() -> Result<String> {
    let list = removable()?;
    for address in &list {
        let path = pci::folder(address).join("remove");
        fs::write(&path, "1").with_context(|| format!("cannot write to {}", path.display()))?;
    }
    ensure!(
        removable()?.is_empty(),
        "not every disk went: {:?}",
        removable()?
    );
    fs::write("/sys/bus/pci/rescan", "1").context("cannot rescan")?;
    for address in &list {
        pci::block_device(address)?;
    }
    Ok(format!("{} disks", list.len()))
}

fn round_trips(bench: &Bench, oracle: &Oracle, disks: &[String], wanted: u64) -> Result<String> {
    let done = AtomicU64::new(0);
    let stop = AtomicBool::new(false);
    let begin = Instant::now();
    let writers = disks.len() + 1;
    let groups: Vec<u32> = disks
        .iter()
        .map(|disk| pci::group(disk))
        .collect::<Result<_>>()?;
    let more = || !stop.load(Ordering::Relaxed) && done.load(Ordering::Relaxed) < wanted;
    // One that fails ends the others.
    let again = |work: Work<'_>| -> Result<()> {
        while more() {
            if let Err(error) = work() {
                stop.store(true, Ordering::Relaxed);
                return Err(error);
            }
        }
        Ok(())
    };
    let switch = |group: u32| {
        again(&mut || {
            write_type(group, "DMA")?;
            write_type(group, "DMA-FQ")?;
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })
    };
    let watch = || {
        let mut probed = 0;
        again(&mut || {
            write_type(oracle.group, "DMA")?;
            probed += oracle.probe(20)?.expect_none()?.probes;
            write_type(oracle.group, "DMA-FQ")?;
            done.fetch_add(1, Ordering::Relaxed);
            Ok(())
        })?;
        Ok(probed)
    };
    let reads = AtomicU64::new(0);
    let probed = std::thread::scope(|scope| {
        let mut tasks: Vec<_> = groups
            .iter()
            .map(|group| scope.spawn(|| switch(*group)))
            .collect();
        for disk in disks {
            let (reads, again) = (&reads, &again);
            tasks.push(scope.spawn(move || read(disk, reads, again)));
        }
        let probed = scope.spawn(watch);
        tell(bench, &done, wanted, &tasks);
        let ended = tasks.into_iter().map(|task| match task.join() {
            Ok(ended) => ended,
            Err(_) => anyhow::bail!("a task panicked"),
        });
        // All of them end before this does.
        let ended: Vec<Result<()>> = ended.collect();
        let probed = match probed.join() {
            Ok(probed) => probed,
            Err(_) => anyhow::bail!("the watcher panicked"),
        };
        ended.into_iter().collect::<Result<()>>().and(probed)
    })?;
    let done = done.load(Ordering::Relaxed);
    ensure!(done >= wanted, "{done} of {wanted} round trips");
    bench.fact("round-trips", done);
    bench.fact("groups", writers);
    bench.fact("seconds", begin.elapsed().as_secs());
    let reads = reads.load(Ordering::Relaxed);
    Ok(format!("{done} of {writers} groups, {reads} reads beside the load, 0 of {probed} unmapped pages reached"))
}

/// Tells how far it is, now and then, until a task is done.
fn tell<T>(
    bench: &Bench,
    done: &AtomicU64,
    wanted: u64,
    tasks: &[std::thread::ScopedJoinHandle<'_, T>],
) {
    let mut told = Instant::now();
    while !tasks.iter().any(std::thread::ScopedJoinHandle::is_finished) {
        std::thread::sleep(Duration::from_millis(100));
        if told.elapsed() > Duration::from_secs(60) {
            bench.say(format!(
                "{} of {wanted} round trips",
                done.load(Ordering::Relaxed)
            ));
            told = Instant::now();
        }
    }
}

/// What is done again and again, until the soak ends.
type Work<'a> = &'a mut dyn FnMut() -> Result<()>;

/// Reads single pages of a disk.
fn read(disk: &str, reads: &AtomicU64, again: &impl Fn(Work<'_>) -> Result<()>) -> Result<()> {
    let device = format!("/dev/{}", pci::block_device(disk)?);
    let file = open(&device)?;
    let mut page = Page::new();
    again(&mut || {
        file.read_exact_at(page.get(), 0)
            .with_context(|| format!("reading {device}"))?;
        reads.fetch_add(1, Ordering::Relaxed);
        std::thread::sleep(PAUSE);
        Ok(())
    })
}

/// What the kernel uses for itself.
#[derive(Debug)]
pub(super) struct Memory {
    /// Of `/proc/meminfo`, in KiB: per-CPU memory, where flush queues are, and slab that cannot be reclaimed.
    per_cpu: u64,
    slab: u64,
    /// Of `/proc/vmstat`: pages of IOMMUs' page tables.
    tables: u64,
    /// Objects in use, by slab cache.
    objects: BTreeMap<String, u64>,
}

impl Memory {
    pub(super) fn now() -> Result<Self> {
        // Caches of the kernel's that only look like growth.
        fs::write("/proc/sys/vm/drop_caches", "3").context("cannot drop caches")?;
        // What waits for a grace period, and flush queues, whose timer is 10 ms.
        std::thread::sleep(Duration::from_secs(2));
        shrink()?;
        let path = "/proc/meminfo";
        let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
        let field = |name: &str| -> Result<u64> {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let value = line.and_then(|line| line.split_whitespace().nth(1));
            let value = value.with_context(|| format!("{path} has no {name}"))?;
            value
                .parse()
                .with_context(|| format!("{name} is no number"))
        };
        Ok(Self {
            per_cpu: field("Percpu")?,
            slab: field("SUnreclaim")?,
            tables: tables()?,
            objects: objects()?,
        })
    }

    pub(super) fn compare(&self, now: &Self) -> Result<String> {
        let Self {
            per_cpu,
            slab,
            tables,
            ..
        } = self;
        let of = |memory: &Self, name: &str| memory.objects.get(name).copied().unwrap_or_default();
        let iova = (of(self, IOVA), of(now, IOVA));
        let told = format!(
            "per-CPU {per_cpu} then {} KiB, slab {slab} then {} KiB, page tables {tables} then {} pages, {IOVA} {} then {} objects",
            now.per_cpu, now.slab, now.tables, iova.0, iova.1
        );
        ensure!(
            now.per_cpu <= per_cpu + 512,
            "per-CPU memory has grown: {told}"
        );
        ensure!(now.slab <= slab + 4096, "slab has grown: {told}");
        ensure!(now.tables <= tables + 64, "page tables have grown: {told}");
        // Each processor keeps some for later.
        ensure!(iova.1 <= iova.0 + 1024, "IOVAs were lost: {told}");
        Ok(told)
    }
}

/// Has every slab cache give back what is free, and what KASAN keeps of it in quarantine.
fn shrink() -> Result<()> {
    let path = "/sys/kernel/slab";
    let caches = fs::read_dir(path).with_context(|| format!("cannot read {path}"))?;
    for cache in caches {
        let cache = cache.with_context(|| format!("cannot read {path}"))?;
        // Links are other names of caches.
        if cache.file_type().is_ok_and(|kind| kind.is_dir()) {
            let file = cache.path().join("shrink");
            fs::write(&file, "1").with_context(|| format!("cannot write {}", file.display()))?;
        }
    }
    Ok(())
}

fn tables() -> Result<u64> {
    let path = "/proc/vmstat";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let mut lines = text.lines();
    let line = lines.find_map(|line| line.strip_prefix("nr_iommu_pages "));
    line.with_context(|| format!("{path} has no nr_iommu_pages"))?
        .parse()
        .context("nr_iommu_pages is no number")
}

/// The slab cache of ranges that are mapped.
const IOVA: &str = "iommu_iova";

fn objects() -> Result<BTreeMap<String, u64>> {
    let path = "/proc/slabinfo";
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let caches = text.lines().skip(2).filter_map(|line| {
        let mut words = line.split_whitespace();
        Some((words.next()?.to_owned(), words.next()?.parse().ok()?))
    });
    let caches: BTreeMap<_, _> = caches.collect();
    ensure!(
        caches.contains_key(IOVA),
        "{path} has no {IOVA}: is slab_nomerge on the command line?"
    );
    Ok(caches)
}

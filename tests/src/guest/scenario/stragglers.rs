// SPDX-License-Identifier: GPL-2.0-only
//! Tasks held in the middle of an unmap while the group is tightened. Only on a kernel with hold points.

use std::process::{Child, Command, Stdio};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};

use super::reports::{counter, exactly};
use super::{disk, finish, load_live, write_type};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::oracle::{Oracle, Point, Sight};
use crate::guest::scheduler::{self, set_policy, Policy, SECOND};
use crate::guest::{modules, pci};

/// The flush queue's timer, out of the way: what is queued stays until a switch, or a full ring, flushes it.
pub(super) const NEVER: u32 = 600_000;
/// Long enough for a switch that nobody holds up, with checks and under emulation.
const LONG: Duration = Duration::from_secs(120);
/// How long a switch that must wait is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// Something on its way that has to wait while a task is in the middle of an unmap.
pub(super) struct Waiting<T> {
    what: &'static str,
    thread: JoinHandle<Result<T>>,
}

/// A write of `DMA`.
pub(super) type Tighten = Waiting<()>;

impl Tighten {
    pub(super) fn begin(group: u32) -> Self {
        Self::on("the tighten", move || {
            pci::write_type(group, "DMA").context("the tighten failed")
        })
    }
}

impl<T: Send + 'static> Waiting<T> {
    pub(super) fn on(
        what: &'static str,
        work: impl FnOnce() -> Result<T> + Send + 'static,
    ) -> Self {
        let thread = std::thread::spawn(work);
        Self { what, thread }
    }

    /// Makes sure that it does not return while somebody is held.
    pub(super) fn expect_waiting(&self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < WATCHED {
            ensure!(
                !self.thread.is_finished(),
                "{} returned while a task was in the middle of an unmap",
                self.what
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    pub(super) fn finish(self) -> Result<T> {
        let begin = Instant::now();
        while !self.thread.is_finished() {
            ensure!(begin.elapsed() < LONG, "{} does not return", self.what);
            std::thread::sleep(Duration::from_millis(5));
        }
        match self.thread.join() {
            Ok(answer) => answer,
            Err(_) => bail!("{}: a thread panicked", self.what),
        }
    }
}

/// Attaches the oracle to a lazy group whose queue is only flushed by a switch or a full ring.
pub(super) fn attach() -> Result<Oracle> {
    load_live()?;
    let oracle = Oracle::attach()?;
    oracle.timer(NEVER)?;
    Ok(oracle)
}

pub(super) fn leave(oracle: &Oracle) -> Result<()> {
    oracle.timer(0)?;
    write_type(oracle.group, "DMA-FQ")?;
    modules::unload(modules::LIVE)
}

/// Many tasks at each point of an unmap, a tighten, and then they go on.
pub fn stragglers(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    // Without a load: what another device unmaps may invalidate for all.
    bench.check("lazy-stragglers-are-reached", control(&oracle));
    let (_, device) = disk()?;
    let load = Load::start(&device)?;
    let count = bench.of(40, 300);
    for point in Point::ALL {
        bench.check(
            point.name(),
            let_go(&oracle, || held_at(&oracle, point, count)),
        );
    }
    finish(bench, load);
    leave(&oracle)
}

/// A lazy group with empty rings.
pub(super) fn fresh(oracle: &Oracle) -> Result<()> {
    write_type(oracle.group, "DMA")?;
    write_type(oracle.group, "DMA-FQ").map(|_| ())
}

/// Runs `part`; whatever comes of it, nobody is held afterwards.
pub(super) fn let_go<T>(oracle: &Oracle, part: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = part();
    oracle.release_all()?;
    result
}

/// Without a switch their pages are reached: what follows is no accident.
pub(super) fn control(oracle: &Oracle) -> Result<Sight> {
    fresh(oracle)?;
    oracle.hold(0, Point::PageTableChanged, 8)?;
    oracle.release(0)?;
    oracle.returned(0)?;
    let sight = oracle.fire()?;
    ensure!(sight.reached == 8, "{sight}, expected all while lazy");
    Ok(sight)
}

pub(super) fn held_at(oracle: &Oracle, point: Point, count: usize) -> Result<String> {
    fresh(oracle)?;
    oracle.hold(0, point, count)?;
    let drained = counter("drained")?;
    let tighten = Tighten::begin(oracle.group);
    tighten.expect_waiting()?;
    oracle.release(0)?;
    tighten.finish()?;
    oracle.returned(0)?;
    let drained = counter("drained")? - drained;
    let sight = oracle.fire()?.expect_none()?;
    // Who had only sampled takes the strict entry; the others queue, and only the final flush comes for them.
    ensure!(
        (drained > 0) == (point != Point::Sampled),
        "{drained} entries were drained"
    );
    Ok(format!("{sight}, {drained} entries drained"))
}

/// One task across each of the three waits. The writer is let go after the first, who reads the type after the second, and
/// who unloads the module after the third.
pub fn across_each_wait(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    for round in 0..bench.of(3, 10) {
        bench.check(
            "across-each-wait",
            let_go(&oracle, || across(&oracle)).with_context(|| format!("round {round}")),
        );
    }
    leave(&oracle)
}

pub(super) fn across(oracle: &Oracle) -> Result<Sight> {
    fresh(oracle)?;
    // A grace period that an earlier switch still waits for would be held up, and ours begin only after it, with those whom we
    // mean to come too late. Whoever unloads the module has waited for all of them.
    modules::unload(modules::LIVE)?;
    load_live()?;
    let group = oracle.group;
    oracle.hold(0, Point::PageTableChanged, 1)?;
    let tighten = Tighten::begin(group);
    tighten.expect_waiting().context("first wait")?;
    // The strict entry is published; this one has sampled "queued" and has not taken it yet.
    oracle.hold(1, Point::Sampled, 1)?;
    oracle.release(0)?;
    tighten.finish()?;
    let reader = Waiting::on("a reader of the type", move || pci::type_of(group));
    reader.expect_waiting().context("second wait")?;
    // The mode is cleared; this one samples "strict", and has been through the strict entry.
    oracle.hold(2, Point::PageTableChanged, 1)?;
    oracle.release(1)?;
    let read = reader.finish()?;
    ensure!(read == "DMA", "the type reads {read}");
    let unload = Waiting::on("the unload", || modules::unload(modules::LIVE));
    unload.expect_waiting().context("third wait")?;
    oracle.release(2)?;
    unload.finish()?;
    for batch in 0..3 {
        oracle.returned(batch)?;
    }
    load_live()?;
    oracle.fire()?.expect_none()
}

/// A straggler that may go on, but gets next to no processor time.
pub fn starved(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("by-a-fifo-hog", let_go(&oracle, || starve(&oracle, true)));
    bench.check("by-being-idle", let_go(&oracle, || starve(&oracle, false)));
    bench.check("by-cpu-max", let_go(&oracle, || starve_by_quota(&oracle)));
    leave(&oracle)
}

/// Starves a straggler on the second processor by a hog there: one with a real-time policy, or a common one beside a
/// straggler that only gets what is idle.
fn starve(oracle: &Oracle, fifo: bool) -> Result<String> {
    fresh(oracle)?;
    oracle.hold(0, Point::PageTableChanged, 1)?;
    let straggler = scheduler::find("straggler/")?;
    scheduler::pin(straggler, SECOND)?;
    let tighten = Tighten::begin(oracle.group);
    tighten.expect_waiting()?;
    let hog = Hog::start()?;
    if fifo {
        set_policy(hog.id(), Policy::Fifo(50))?;
    } else {
        set_policy(straggler, Policy::Idle)?;
    }
    let before = hog.ticks()?;
    oracle.release(0)?;
    std::thread::sleep(WATCHED);
    let ticks = hog.ticks()?.saturating_sub(before);
    drop(hog);
    tighten.finish()?;
    oracle.returned(0)?;
    let sight = oracle.fire()?.expect_none()?;
    // In hundredths of a second.
    ensure!(ticks > 100, "the hog had only {ticks} ticks in 2 s");
    Ok(format!("{sight}; the hog had {ticks} of 200 ticks"))
}

/// Starves a straggler by a control group that lets it run for a fifth of the time. What it takes beyond that while it is
/// held, it has to make up for before it gets to leave the kernel.
fn starve_by_quota(oracle: &Oracle) -> Result<String> {
    const ROOT: &str = "/sys/fs/cgroup";
    let folder = format!("{ROOT}/slow");
    let write = |path: &str, text: &str| {
        std::fs::write(path, text).with_context(|| format!("cannot write {text} to {path}"))
    };
    write(&format!("{ROOT}/cgroup.subtree_control"), "+cpu")?;
    std::fs::create_dir(&folder).with_context(|| format!("cannot make {folder}"))?;
    write(&format!("{folder}/cpu.max"), "20000 100000")?;
    fresh(oracle)?;
    let first = format!("echo $$ > {folder}/cgroup.procs");
    let mut straggler = oracle.hold_process(&first, 0, Point::PageTableChanged)?;
    let tighten = Tighten::begin(oracle.group);
    tighten.expect_waiting()?;
    oracle.release(0)?;
    tighten.finish()?;
    oracle.returned(0)?;
    let sight = oracle.fire()?.expect_none()?;
    let status = straggler.wait().context("cannot wait for the straggler")?;
    ensure!(status.success(), "the straggler ended with {status}");
    let path = format!("{folder}/cpu.stat");
    let stat = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let throttled = stat
        .lines()
        .find_map(|line| line.strip_prefix("nr_throttled "));
    let throttled: u64 = throttled.context("no nr_throttled")?.parse()?;
    ensure!(throttled > 0, "it was never throttled:\n{stat}");
    std::fs::remove_dir(&folder).with_context(|| format!("cannot remove {folder}"))?;
    Ok(format!("{sight}; throttled {throttled} times"))
}

/// Uses up the second processor until it is dropped.
pub(super) struct Hog(Child);

impl Hog {
    pub(super) fn start() -> Result<Self> {
        let hog = Command::new("/bin/sh")
            .args(["-c", "while :; do :; done"])
            .stdin(Stdio::null())
            .spawn();
        let hog = Self(hog.context("cannot start a hog")?);
        scheduler::pin(hog.id(), SECOND)?;
        std::thread::sleep(Duration::from_millis(500));
        Ok(hog)
    }

    pub(super) fn id(&self) -> u32 {
        self.0.id()
    }

    /// User time so far, in hundredths of a second.
    pub(super) fn ticks(&self) -> Result<u64> {
        let path = format!("/proc/{}/stat", self.0.id());
        let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
        let rest = text.rsplit_once(')').context("no name in stat")?.1;
        // Of the fields behind the name, `utime` is the 12th.
        let utime = rest
            .split_whitespace()
            .nth(11)
            .context("no utime in stat")?;
        utime.parse().context("utime is no number")
    }
}

impl Drop for Hog {
    fn drop(&mut self) {
        // Both fail only when it is gone already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A queue with entries that nothing but the final flush comes for.
pub fn final_flush(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    let rounds = bench.of(10, 30);
    let before = counter("drained")?;
    for round in 0..rounds {
        write_type(oracle.group, "DMA-FQ")?;
        oracle.arm(PAGES)?;
        write_type(oracle.group, "DMA")?;
        let sight = oracle.fire()?.expect_none();
        if sight.is_err() {
            bench.check("flushed", sight.with_context(|| format!("round {round}")));
            return leave(&oracle);
        }
    }
    let drained = counter("drained")? - before;
    let wanted = (rounds * PAGES) as u64;
    bench.check("flushed", exactly(wanted, drained));
    leave(&oracle)
}

/// Few enough that no ring fills up.
const PAGES: usize = 64;

/// Whether the kernel finds memory of the module that nothing points to, after round trips and an unload.
pub fn leaks(bench: &Bench) -> Result<()> {
    let (group, _) = disk()?;
    load_live()?;
    for _ in 0..bench.of(20, 60) {
        write_type(group, "DMA")?;
        write_type(group, "DMA-FQ")?;
    }
    modules::unload(modules::LIVE)?;
    bench.check("kmemleak", scan());
    Ok(())
}

fn scan() -> Result<&'static str> {
    let path = "/sys/kernel/debug/kmemleak";
    // What was freed or allocated a moment ago is only judged the second time.
    for _ in 0..2 {
        std::fs::write(path, "scan").with_context(|| format!("cannot write {path}"))?;
        std::thread::sleep(Duration::from_secs(6));
    }
    let found = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    let ours = found.contains("iommu_live") || found.contains("iommu_dma");
    ensure!(!ours, "{found}");
    Ok("nothing of the module's")
}

// SPDX-License-Identifier: GPL-2.0-only
//! Tasks held in the middle of an unmap while the group is tightened: it is strict at once, and they come late.
//!
//! On every kernel but for `starved` and `final-flush`, which need a flush timer that can be told to wait.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use nix::errno::Errno;

use super::mutants::one_by_one;
use super::reports::{counter, exactly};
use super::soak::Memory;
use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::live::{self, LateComers};
use crate::guest::load::Load;
use crate::guest::oracle::{Oracle, Point, Sight};
use crate::guest::scheduler::{self, set_policy, Policy, SECOND};
use crate::guest::{modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("stragglers", stragglers),
    ("across-each-wait", across_each_wait),
    ("starved", starved),
    ("final-flush", final_flush),
    ("late-soak", late_soak),
    ("leaks", leaks),
];

/// The flush queue's timer, out of the way: what is queued stays until a switch, or a full ring, flushes it.
pub(super) const NEVER: u32 = 600_000;
/// How long somebody who must not wait may take, with checks, under emulation and beside hundreds of busy tasks. Who waits for
/// those that are held never comes back.
pub(super) const AT_ONCE: Duration = Duration::from_secs(30);
/// How long a clean-up that must wait is watched. Its grace period has begun by then, and does not wait for who comes later.
const WATCHED: Duration = Duration::from_secs(2);

/// Does something that must not wait for those who are held, and tells how long it took.
pub(super) fn at_once<T: Send + 'static>(
    what: &str,
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<(T, Duration)> {
    let begin = Instant::now();
    let thread = std::thread::spawn(work);
    while !thread.is_finished() {
        ensure!(begin.elapsed() < AT_ONCE, "{what} waits");
        std::thread::sleep(Duration::from_micros(200));
    }
    match thread.join() {
        Ok(done) => Ok((done.with_context(|| what.to_owned())?, begin.elapsed())),
        Err(_) => bail!("{what}: a thread panicked"),
    }
}

/// Writes `DMA`, which must not wait for anybody: the group is strict then, and is being cleaned up after. Tells how long it
/// took to be strict, in nanoseconds.
pub(super) fn tighten(group: u32) -> Result<u64> {
    at_once("the tighten", move || {
        pci::write_type(group, "DMA").context("the tighten failed")
    })?;
    live::expect_step(group, "armed")?;
    counter("last_strict_ns")
}

/// Whoever reads the type of the group is answered at once: none of several waits, and what the fastest takes is what an answer takes
/// if the machine is not busy with something else.
pub(super) fn read_at_once(group: u32) -> Result<Duration> {
    const READS: usize = 9;
    let mut times = Vec::new();
    for _ in 0..READS {
        let (read, took) = at_once("a reader of the type", move || pci::type_of(group))?;
        ensure!(read == "DMA", "the type reads {read}");
        times.push(took);
    }
    let fastest = times.iter().min().copied().unwrap_or_default();
    ensure!(
        fastest < live::answer()?,
        "readers of the type waited: {times:?}"
    );
    Ok(fastest)
}

/// Nothing of a clean-up moves on while somebody is held.
fn expect_still(group: u32, step: &str) -> Result<()> {
    let begin = Instant::now();
    while begin.elapsed() < WATCHED {
        live::expect_step(group, step).context("while a task was in the middle of an unmap")?;
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Attaches the oracle to a lazy group whose queue is only flushed by a switch or a full ring, where the kernel allows that.
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
fn stragglers(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    // Without a load: what another device unmaps may invalidate for all.
    bench.check("lazy-stragglers-are-reached", control(&oracle));
    let (_, device) = disk()?;
    let load = Load::start(&device)?;
    let count = bench.of(40, 300);
    for point in oracle.points()? {
        for count in [1, count] {
            bench.check(
                &format!("{count}-{}", point.name()),
                let_go(&oracle, || held_at(&oracle, point, count)),
            );
        }
    }
    finish(bench, load);
    leave(&oracle)
}

/// A lazy group with empty rings, and nothing to clean up.
pub(super) fn fresh(oracle: &Oracle) -> Result<()> {
    write_type(oracle.group, "DMA")?;
    write_type(oracle.group, "DMA-FQ")?;
    live::cleaned_up()
}

/// Runs `part`; whatever comes of it, nobody is held afterwards, nor counted with those who are held next.
pub(super) fn let_go<T>(oracle: &Oracle, part: impl FnOnce() -> Result<T>) -> Result<T> {
    let result = part();
    oracle.release_all()?;
    if result.is_err() {
        // As long as somebody is on his way, there may be nothing to probe yet.
        std::thread::sleep(WATCHED);
        let _ = oracle.fire();
    }
    result
}

/// Without a switch their pages are reached: what follows is no accident.
pub(super) fn control(oracle: &Oracle) -> Result<Sight> {
    fresh(oracle)?;
    while_lazy(oracle)
}

/// The same in a group that has not been switched yet.
pub(super) fn while_lazy(oracle: &Oracle) -> Result<Sight> {
    const HELD: usize = 20;
    oracle.hold(0, Point::Entered, HELD)?;
    oracle.touch(0)?;
    oracle.let_go(0)?.of(HELD)?.expect_most()
}

/// Tasks held at `point` across a tighten. Where the device can still use their pages, it does so after the tighten and before they
/// go on: else what the tighten flushed would be all that keeps it from them afterwards.
pub(super) fn held_at(oracle: &Oracle, point: Point, count: usize) -> Result<String> {
    fresh(oracle)?;
    held(oracle, point, count)
}

/// The same in a group that is lazy.
pub(super) fn held(oracle: &Oracle, point: Point, count: usize) -> Result<String> {
    let before = LateComers::so_far()?;
    oracle.hold(0, point, count)?;
    let strict = tighten(oracle.group)?;
    let read = read_at_once(oracle.group)?;
    expect_still(oracle.group, "armed")?;
    if point.is_before_the_change() {
        oracle.touch(0)?;
    }
    let sight = oracle.let_go(0)?.of(count)?.expect_none()?;
    live::cleaned_up()?;
    let late = before.since()?;
    // Who had only sampled takes the strict entry; each of the others comes to an armed ring.
    let wanted = if point == Point::Sampled {
        0
    } else {
        count as u64
    };
    ensure!(
        late.came == wanted,
        "expected {wanted} late comers: {late:?}"
    );
    Ok(format!(
        "{sight}; strict after {} us, read within {} us; {late:?}",
        strict / 1000,
        read.as_micros()
    ))
}

/// One task across each step of a clean-up.
fn across_each_wait(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    for round in 0..bench.of(2, 10) {
        bench.check(
            "across-each-wait",
            let_go(&oracle, || across(&oracle)).with_context(|| format!("round {round}")),
        );
    }
    leave(&oracle)
}

pub(super) fn across(oracle: &Oracle) -> Result<String> {
    fresh(oracle)?;
    // A grace period that an earlier switch still waits for would be held up, and ours begin only after it, with those whom we
    // mean to come too late. Whoever unloads the module has waited for all of them.
    modules::unload(modules::LIVE)?;
    load_live()?;
    let group = oracle.group;
    let before = LateComers::so_far()?;
    oracle.hold(0, Point::Entered, 1)?;
    tighten(group)?;
    expect_still(group, "armed")?;
    // The strict entry is published; this one has sampled "queued" and has not taken it yet.
    oracle.hold(1, Point::Sampled, 1)?;
    oracle.touch(0)?;
    let first = oracle.let_go(0)?;
    live::until(group, "cleared")?;
    expect_still(group, "cleared")?;
    read_at_once(group)?;
    // The mode is cleared; this one samples "strict", and has taken the strict entry.
    oracle.hold(2, Point::PageTableChanged, 1)?;
    oracle.touch(1)?;
    let second = oracle.let_go(1)?;
    live::until(group, "restored")?;
    expect_still(group, "restored")?;
    read_at_once(group)?;
    let answer = modules::unload_now(modules::LIVE);
    ensure!(answer == Err(Errno::EWOULDBLOCK), "the unload: {answer:?}");
    let third = oracle.let_go(2)?.of(3)?.expect_none()?;
    ensure!(
        first.reached + second.reached == 0,
        "STALE DMA: {first}, {second}"
    );
    live::cleaned_up()?;
    let late = before.since()?;
    ensure!(late.came == 1, "expected one late comer: {late:?}");
    Ok(third.to_string())
}

/// A straggler that may go on, but gets next to no processor time: nobody waits for it but the clean-up.
fn starved(bench: &Bench) -> Result<()> {
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
    oracle.hold(0, Point::Entered, 1)?;
    let straggler = scheduler::find("straggler/")?;
    scheduler::pin(straggler, SECOND)?;
    tighten(oracle.group)?;
    oracle.touch(0)?;
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
    oracle.returned(0)?;
    let sight = oracle.fire()?.expect_none()?;
    live::cleaned_up()?;
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
    let mut straggler = oracle.hold_process(&first, 0, Point::Entered)?;
    tighten(oracle.group)?;
    expect_still(oracle.group, "armed")?;
    oracle.touch(0)?;
    let sight = oracle.let_go(0)?.of(1)?.expect_none()?;
    let status = straggler.wait().context("cannot wait for the straggler")?;
    ensure!(status.success(), "the straggler ended with {status}");
    live::cleaned_up()?;
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
fn final_flush(bench: &Bench) -> Result<()> {
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

/// Late comers by the thousand: what they leave is collected, and what is given up comes back with the domain, also when that is freed
/// while it is cleaned up after.
fn late_soak(bench: &Bench) -> Result<()> {
    // More are given up in a few rounds than processors keep for themselves: what was lost would show.
    const HELD: usize = 100;
    let rounds = bench.of(16, 200);
    let oracle = attach()?;
    one_by_one(&oracle)?;
    come_and_go()?;
    let before = Memory::now()?;
    let late = LateComers::so_far()?;
    let mut oracle = Oracle::attach()?;
    for round in bench.rounds(rounds) {
        let (held, freed) = if round % 2 == 0 {
            (one_by_one(&oracle).map(|_| ()), round % 4 == 0)
        } else {
            (all_together(&oracle, HELD), round % 4 == 1)
        };
        held.with_context(|| format!("round {round}"))?;
        if freed {
            fresh(&oracle)?;
            oracle.hold(0, Point::Entered, HELD)?;
            tighten(oracle.group)?;
            oracle.touch(0)?;
            // Its driver lets them go on, and then the device goes, and the domain with it.
            oracle = come_and_go()?;
        }
    }
    come_and_go()?;
    live::cleaned_up()?;
    let late = late.since();
    bench.check(
        "all-are-accounted-for",
        late.and_then(|late| {
            ensure!(
                late.collected > 0 && late.given_up > 0,
                "nothing of one kind: {late:?}"
            );
            Ok(format!("{late:?}"))
        }),
    );
    bench.check("memory-is-what-it-was", before.compare(&Memory::now()?));
    modules::unload(modules::LIVE)
}

/// So many at once: most are given up.
fn all_together(oracle: &Oracle, count: usize) -> Result<()> {
    fresh(oracle)?;
    oracle.hold(0, Point::Entered, count)?;
    tighten(oracle.group)?;
    oracle.touch(0)?;
    oracle.let_go(0)?.of(count)?.expect_none()?;
    live::cleaned_up()
}

/// The oracle's card is removed, and found again.
fn come_and_go() -> Result<Oracle> {
    let remove = pci::folder(pci::ORACLE).join("remove");
    at_once("the removal", move || {
        std::fs::write(remove, "1").context("cannot remove the card")
    })?;
    std::fs::write("/sys/bus/pci/rescan", "1").context("cannot rescan")?;
    // Another driver for such cards is there by now.
    pci::rebind(pci::ORACLE, "iommuctl_oracle")?;
    Oracle::attach()
}

/// Whether the kernel finds memory of the module that nothing points to, after round trips and an unload.
fn leaks(bench: &Bench) -> Result<()> {
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

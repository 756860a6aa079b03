// SPDX-License-Identifier: GPL-2.0-only
//! Where spin locks sleep (`PREEMPT_RT`). Only on such a kernel, with hold points.
//!
//! A task that sleeps has, to tasks-RCU, left whatever it was in the middle of. One that sleeps for the lock of a ring is
//! back at the ring when it wakes up.
//!
//! This shows that what such a task queues is flushed, and that the clean-up waits for it; not by what: the scheduler may keep a
//! task that sleeps on its run queue for a while, and then the grace periods cover it too. That they may not is what the model
//! shows.

use std::process::Child;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};

use super::reports::counter;
use super::stragglers::{attach, fresh, leave, let_go, Hog};
use super::Scenarios;
use crate::guest::bench::Bench;
use crate::guest::live;
use crate::guest::oracle::{Oracle, Point};
use crate::guest::pci;
use crate::guest::scheduler::{find, mercy, pin, set_policy, Policy, FIRST, SECOND};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("asleep-at-the-ring", asleep_at_the_ring)];

/// A straggler sleeps for the ring's lock while others have it, one after another; and gets no processor when it is woken up. A
/// tighten needs the lock as well, and comes after it.
fn asleep_at_the_ring(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    // It has the group's mutex while it waits for that lock, which nobody has for long outside of this test.
    live::expect_long_hold();
    // Nobody whom the tighten needs may starve with the sleeper.
    pin(0, FIRST)?;
    pin(find("rcu_tasks_k")?, FIRST)?;
    for round in 0..bench.of(3, 10) {
        let result = let_go(&oracle, || asleep(&oracle));
        mercy(true)?;
        bench.check(
            "asleep-at-the-ring",
            result.with_context(|| format!("round {round}")),
        );
    }
    leave(&oracle)
}

/// Holders of the lock; all but the first sleep for it when the tighten begins.
const HOLDERS: usize = 3;

fn asleep(oracle: &Oracle) -> Result<String> {
    fresh(oracle)?;
    // On one processor, so in one ring, whose lock goes to who came first.
    let there = format!("busybox taskset -p {} $$ > /dev/null", 1 << SECOND);
    let mut holders = vec![oracle.hold_process(&there, 0, Point::InRing)?];
    for batch in 1..HOLDERS {
        let holder = oracle.begin_process(&there, batch, Point::InRing)?;
        expect_asleep(&holder)?;
        holders.push(holder);
    }
    let mut sleeper = oracle.begin_process(&there, HOLDERS, Point::Nowhere)?;
    expect_asleep(&sleeper)?;
    let drained = counter("drained")?;
    let tighten = Tighten::begin(oracle.group);
    let hog = let_pass(oracle, &tighten, &mut holders)?;
    tighten.expect_waiting().context("for the sleeper")?;
    let woken = state(&sleeper)?;
    drop(hog);
    tighten.finish()?;
    end(&mut sleeper)?;
    live::cleaned_up()?;
    let drained = counter("drained")? - drained;
    let sight = oracle.fire()?.expect_none()?;
    ensure!(
        woken == 'R',
        "the sleeper was in state {woken}, not runnable"
    );
    let all = HOLDERS as u64 + 1;
    ensure!(
        drained == all,
        "{drained} entries were drained, not all {all}"
    );
    Ok(format!("{sight}, all {all} entries drained"))
}

/// Long enough for a switch that nobody holds up, with checks and under emulation.
const LONG: Duration = Duration::from_secs(120);
/// How long a switch that must wait is watched.
const WATCHED: Duration = Duration::from_secs(2);

/// A write of `DMA` that has to wait for the lock of a ring.
struct Tighten(JoinHandle<std::io::Result<()>>);

impl Tighten {
    fn begin(group: u32) -> Self {
        Self(std::thread::spawn(move || pci::write_type(group, "DMA")))
    }

    /// Makes sure that it does not return while somebody has the lock, or comes before it.
    fn expect_waiting(&self) -> Result<()> {
        let begin = Instant::now();
        while begin.elapsed() < WATCHED {
            ensure!(
                !self.0.is_finished(),
                "the tighten returned while it could not look at a ring"
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(())
    }

    fn finish(self) -> Result<()> {
        let begin = Instant::now();
        while !self.0.is_finished() {
            ensure!(begin.elapsed() < LONG, "the tighten does not return");
            std::thread::sleep(Duration::from_millis(5));
        }
        match self.0.join() {
            Ok(answer) => answer.context("the tighten failed"),
            Err(_) => bail!("the tighten panicked"),
        }
    }
}

/// Lets one holder after the other pass. When the last one goes, a hog has the processor.
fn let_pass(oracle: &Oracle, tighten: &Tighten, holders: &mut [Child]) -> Result<Hog> {
    let last = holders.len() - 1;
    for (batch, holder) in holders.iter_mut().enumerate() {
        oracle.held(batch)?;
        tighten
            .expect_waiting()
            .with_context(|| format!("for holder {batch}"))?;
        if batch == last {
            // Of those on that processor the holder comes first, then the hog; the kernel's own tasks take turns with
            // the hog, and common ones get nothing. Not earlier: a holder is in an RCU section, and the kernel soon
            // makes it a real-time task.
            let hog = Hog::start()?;
            set_policy(hog.id(), Policy::RoundRobin(1))?;
            set_policy(holder.id(), Policy::Fifo(50))?;
            mercy(false)?;
            oracle.release(batch)?;
            end(holder)?;
            return Ok(hog);
        }
        oracle.release(batch)?;
        end(holder)?;
    }
    bail!("there are no holders")
}

/// What the kernel says of a task: `R` is runnable, `D` sleeps without a way to interrupt it.
fn state(task: &Child) -> Result<char> {
    let path = format!("/proc/{}/stat", task.id());
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    let rest = text.rsplit_once(") ").context("no name in stat")?.1;
    rest.chars().next().context("no state in stat")
}

fn expect_asleep(task: &Child) -> Result<()> {
    let begin = Instant::now();
    while state(task)? != 'D' {
        ensure!(
            begin.elapsed() < Duration::from_secs(20),
            "the second task does not sleep for the ring's lock"
        );
        std::thread::sleep(Duration::from_millis(10));
    }
    Ok(())
}

fn end(task: &mut Child) -> Result<()> {
    let status = task.wait().context("cannot wait for a process")?;
    ensure!(status.success(), "a process ended with {status}");
    Ok(())
}

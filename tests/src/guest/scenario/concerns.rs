// SPDX-License-Identifier: GPL-2.0-only
//! The five concerns raised on the kernel's mailing list in August 2021, when a live switch was first discussed. Each
//! is made to happen as far as the kernel lets it. Only on a kernel with hold points.

use anyhow::{Context as _, Result};

use super::reports::{counter, story};
use super::stragglers::{across, at_once, attach, control, fresh, held_at, leave, let_go, tighten};
use super::{write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::oracle::{Oracle, Point};
use crate::guest::pci;
use crate::guest::uevent::Events;

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("flag-without-queue", flag_without_queue),
    ("barrier-while-deferred", barrier_while_deferred),
    ("race-with-itself", race_with_itself),
    ("mode-not-atomic", mode_not_atomic),
];

/// Tasks held at once.
const HELD: usize = 40;

/// `fq_domain` is seen while the flush queue is not there yet, or no longer: whoever has seen it still finds a queue.
fn flag_without_queue(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    let held = let_go(&oracle, || held_at(&oracle, Point::BeforeRing, HELD));
    bench.check("still-there", held);
    bench.check("not-there-yet", relaxed_under_unmaps(bench, &oracle));
    leave(&oracle)
}

/// Somebody unmaps without a pause while the queue comes and goes.
fn relaxed_under_unmaps(bench: &Bench, oracle: &Oracle) -> Result<String> {
    oracle.timer(0)?;
    oracle.hammer()?;
    let rounds = bench.of(20, 100);
    let switched = (0..rounds).try_for_each(|round| {
        write_type(oracle.group, "DMA").with_context(|| format!("round {round}"))?;
        write_type(oracle.group, "DMA-FQ").with_context(|| format!("round {round}"))?;
        Ok::<_, anyhow::Error>(())
    });
    let sight = oracle.rest()?;
    switched?;
    Ok(format!(
        "{rounds} round trips, {} unmaps meanwhile",
        sight.probes
    ))
}

/// A barrier in the page-table code is missed while reclaim is deferred: the page is unreachable all the same.
fn barrier_while_deferred(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("reached-while-lazy", let_go(&oracle, || control(&oracle)));
    let held = let_go(&oracle, || held_at(&oracle, Point::PageTableChanged, HELD));
    bench.check("not-reached-after-a-tighten", held);
    let held = let_go(&oracle, || held_at(&oracle, Point::Entered, HELD));
    bench.check("not-reached-if-touched-after-a-tighten", held);
    leave(&oracle)
}

/// A switch races with another one of the same group, while the one before is cleaned up: one after the other, whichever way each
/// goes.
fn race_with_itself(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("one-after-the-other", let_go(&oracle, || race(&oracle)));
    leave(&oracle)
}

fn race(oracle: &Oracle) -> Result<String> {
    const WRITERS: usize = 4;
    const ROUNDS: usize = 10;
    fresh(oracle)?;
    oracle.hold(0, Point::PageTableChanged, 1)?;
    let events = Events::listen()?;
    let before = counter("tightened")?;
    let group = oracle.group;
    at_once("writers of both types", move || {
        std::thread::scope(|scope| {
            let write = || -> std::io::Result<()> {
                for _ in 0..ROUNDS {
                    pci::write_type(group, "DMA")?;
                    pci::write_type(group, "DMA-FQ")?;
                }
                Ok(())
            };
            let writers: Vec<_> = (0..WRITERS).map(|_| scope.spawn(write)).collect();
            for writer in writers {
                match writer.join() {
                    Ok(written) => written?,
                    Err(_) => anyhow::bail!("a writer panicked"),
                }
            }
            Ok(())
        })
    })?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    let writes = 2 * WRITERS * ROUNDS;
    let told = story(&events.switches()?, writes, counter("tightened")? - before)?;
    tighten(group)?;
    let sight = oracle.let_go(0)?.of(1)?.expect_none()?;
    Ok(format!("{told}; {sight}"))
}

/// The mode is not one atomic state: a sample taken in one mode ends well in the other, wherever the switch is.
fn mode_not_atomic(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    let held = let_go(&oracle, || held_at(&oracle, Point::Sampled, HELD));
    bench.check("sampled-before-the-switch", held);
    bench.check("sampled-in-the-middle", let_go(&oracle, || across(&oracle)));
    leave(&oracle)
}

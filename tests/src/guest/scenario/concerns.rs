// SPDX-License-Identifier: GPL-2.0-only
//! The five concerns raised on the kernel's mailing list in August 2021, when a live switch was first discussed. Each
//! is made to happen as far as the kernel lets it. Only on a kernel with hold points.

use anyhow::{ensure, Context as _, Result};

use super::reports::{counter, story};
use super::stragglers::{across, attach, control, fresh, held_at, leave, let_go, Tighten};
use super::write_type;
use crate::guest::bench::Bench;
use crate::guest::oracle::{Oracle, Point};
use crate::guest::pci;
use crate::guest::uevent::Events;

/// Tasks held at once.
const HELD: usize = 40;

/// `fq_domain` is seen while the flush queue is not there yet, or no longer: whoever has seen it still finds a queue.
pub fn flag_without_queue(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    let held = let_go(&oracle, || held_at(&oracle, Point::BeforeRing, HELD));
    bench.check("no-longer-there", held);
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
pub fn barrier_while_deferred(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("reached-while-lazy", let_go(&oracle, || control(&oracle)));
    let held = let_go(&oracle, || held_at(&oracle, Point::PageTableChanged, HELD));
    bench.check("not-reached-after-a-tighten", held);
    leave(&oracle)
}

/// A switch races with another one of the same group: each waits for the one before, whichever way it goes.
pub fn race_with_itself(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    bench.check("one-after-the-other", let_go(&oracle, || race(&oracle)));
    leave(&oracle)
}

fn race(oracle: &Oracle) -> Result<String> {
    fresh(oracle)?;
    oracle.hold(0, Point::PageTableChanged, 1)?;
    let events = Events::listen()?;
    let before = counter("tightened")?;
    let first = Tighten::begin(oracle.group);
    first.expect_waiting()?;
    let group = oracle.group;
    let relax = std::thread::spawn(move || pci::write_type(group, "DMA-FQ"));
    let second = Tighten::begin(group);
    second.expect_waiting().context("second tighten")?;
    ensure!(
        !relax.is_finished(),
        "a relax went past a tighten that was under way"
    );
    oracle.release(0)?;
    first.finish()?;
    second.finish()?;
    match relax.join() {
        Ok(answer) => answer.context("the relax failed")?,
        Err(_) => anyhow::bail!("a writer panicked"),
    }
    oracle.returned(0)?;
    std::thread::sleep(std::time::Duration::from_millis(50));
    let told = story(&events.switches()?, 3, counter("tightened")? - before)?;
    let sight = oracle.fire()?.expect_none()?;
    Ok(format!("{told}; {sight}"))
}

/// The mode is not one atomic state: a sample taken in one mode ends well in the other, wherever the switch is.
pub fn mode_not_atomic(bench: &Bench) -> Result<()> {
    let oracle = attach()?;
    let held = let_go(&oracle, || held_at(&oracle, Point::Sampled, HELD));
    bench.check("sampled-before-the-switch", held);
    bench.check("sampled-in-the-middle", let_go(&oracle, || across(&oracle)));
    leave(&oracle)
}

// SPDX-License-Identifier: GPL-2.0-only
//! Disks whose unmaps are done by tasks, which can be preempted in the middle of one, and not by interrupts. Only on a
//! kernel that counts who unmaps.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{ensure, Context as _, Result};

use super::reports::counter;
use super::stragglers::NEVER;
use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::modules;
use crate::guest::oracle::{Contexts, Oracle};
use crate::guest::polled::{self, Way};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("polled", polled), ("threaded", threaded)];

/// Readers that poll.
const READERS: u64 = 3;

/// Reads that are polled for.
fn polled(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (group, device) = disk()?;
    polled::prepare(&device)?;
    let stop = AtomicBool::new(false);
    let (crossed, reads) = std::thread::scope(|scope| {
        let readers: Vec<_> = (1..=READERS)
            .map(|seed| {
                scope.spawn({
                    let (device, stop) = (&device, &stop);
                    move || polled::read(device, Way::Polled, seed, stop)
                })
            })
            .collect();
        let crossed = cross(bench, &oracle, group);
        stop.store(true, Ordering::Relaxed);
        let reads = readers.into_iter().map(|reader| match reader.join() {
            Ok(reads) => reads,
            Err(_) => anyhow::bail!("a reader panicked"),
        });
        (crossed, reads.sum::<Result<u64>>())
    });
    let reads = reads?;
    let (contexts, told) = crossed?;
    bench.check(
        "every-block-as-written",
        Ok::<_, anyhow::Error>(format!("{reads} reads")),
    );
    bench.check("tasks-unmap", most_by_tasks(contexts));
    bench.check("switched-meanwhile", Ok::<_, anyhow::Error>(told));
    modules::unload(modules::LIVE)
}

/// Interrupts whose handlers are threads.
fn threaded(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    let (group, device) = disk()?;
    let load = Load::start(&device)?;
    let crossed = cross(bench, &oracle, group);
    finish(bench, load);
    let (contexts, told) = crossed?;
    bench.check("tasks-unmap", most_by_tasks(contexts));
    bench.check("switched-meanwhile", Ok::<_, anyhow::Error>(told));
    modules::unload(modules::LIVE)
}

/// Round trips while the load runs: who unmapped, and what the tightens flushed.
fn cross(bench: &Bench, oracle: &Oracle, group: u32) -> Result<(Contexts, String)> {
    let rounds = bench.of(15, 60);
    // Otherwise it may come before the tighten's own flush.
    oracle.timer(NEVER)?;
    let before = (counter("drained")?, counter("shimmed_unmaps")?);
    oracle.count_contexts()?;
    for round in 0..rounds {
        write_type(group, "DMA").with_context(|| format!("round {round}"))?;
        // For some unmaps to come through the strict entry.
        std::thread::sleep(Duration::from_millis(20));
        write_type(group, "DMA-FQ").with_context(|| format!("round {round}"))?;
    }
    let contexts = oracle.contexts()?;
    oracle.timer(0)?;
    let (drained, shimmed) = (
        counter("drained")? - before.0,
        counter("shimmed_unmaps")? - before.1,
    );
    ensure!(
        drained > 0,
        "no tighten found an entry: the rings were not used"
    );
    ensure!(shimmed > 0, "no unmap crossed a switch");
    Ok((
        contexts,
        format!(
            "{rounds} round trips, {shimmed} unmaps crossed, {drained} entries flushed by tightens"
        ),
    ))
}

fn most_by_tasks(contexts: Contexts) -> Result<String> {
    let Contexts {
        task,
        interrupt,
        ring,
    } = contexts;
    ensure!(
        task > 10 * interrupt,
        "{task} unmaps by tasks, {interrupt} by interrupts"
    );
    ensure!(ring > 0, "no unmap came to a ring");
    Ok(format!(
        "{task} unmaps by tasks, {interrupt} by interrupts, {ring} through a ring"
    ))
}

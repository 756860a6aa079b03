// SPDX-License-Identifier: GPL-2.0-only
//! The oracle, both sides: a lazy group lets a device reach unmapped memory, a strict one never does.

use std::time::Duration;

use anyhow::{ensure, Result};
use nix::time::{clock_gettime, ClockId};

use super::{disk, load_live, set_mode, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::oracle::{Oracle, Sight};
use crate::guest::{modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("oracle-stock", stock),
    ("oracle-strict-boot", strict_boot),
    ("oracle-live", live),
];

/// Pages armed at once: few enough that the queue neither fills up nor reaches its 10 ms before they are probed.
const ARMED: usize = 64;

/// Probes after tightens: fewer say little.
const ENOUGH: u64 = 100;

/// What a stock kernel does: lazy from boot; the oracle sees it. Without this side, zeros would mean nothing.
fn stock(bench: &Bench) -> Result<()> {
    let oracle = Oracle::attach()?;
    bench.check("starts-lazy", pci::expect_type(oracle.group, "DMA-FQ"));
    bench.check(
        "lazy-reaches",
        oracle.probe(1000).and_then(Sight::expect_most),
    );
    bench.check("armed-lazy-reaches", armed(&oracle));
    Ok(())
}

/// A kernel that boots strict: nothing is reached; relaxed live by the kernel itself, most is.
fn strict_boot(bench: &Bench) -> Result<()> {
    let oracle = Oracle::attach()?;
    bench.check("starts-strict", pci::expect_type(oracle.group, "DMA"));
    bench.check(
        "strict-reaches-nothing",
        oracle.probe(3000).and_then(Sight::expect_none),
    );
    bench.check("relax", write_type(oracle.group, "DMA-FQ"));
    bench.check(
        "lazy-reaches",
        oracle.probe(1000).and_then(Sight::expect_most),
    );
    Ok(())
}

/// Arms pages and probes them at once: while lazy, some must be reached, or arming proves nothing.
fn armed(oracle: &Oracle) -> Result<Sight> {
    // The queue's timer may fire in between, so this has more than one try.
    let mut seen = Sight::default();
    for _ in 0..10 {
        oracle.arm(ARMED)?;
        seen = oracle.fire()?;
        if seen.reached > 0 {
            return Ok(seen);
        }
    }
    ensure!(
        seen.reached > 0,
        "{seen}, in each of 10 tries: expected some while lazy"
    );
    Ok(seen)
}

/// Live switches under load, seen by the oracle.
fn live(bench: &Bench) -> Result<()> {
    load_live()?;
    let oracle = Oracle::attach()?;
    write_type(oracle.group, "DMA-FQ")?;
    bench.check(
        "lazy-reaches",
        oracle.probe(1000).and_then(Sight::expect_most),
    );
    // Without a load: what another device unmaps may invalidate for all.
    bench.check("armed-lazy-reaches", armed(&oracle));
    let (_, device) = disk()?;
    let load = Load::start(&device)?;

    oracle.arm(ARMED)?;
    bench.check("tighten", set_mode(pci::ORACLE, oracle.group, "DMA"));
    bench.check(
        "armed-then-tightened",
        oracle.fire().and_then(Sight::expect_none),
    );
    bench.check("armed-then-written", armed_then_written(&oracle));
    bench.check(
        "tightened-reaches-nothing",
        oracle.probe(3000).and_then(Sight::expect_none),
    );
    bench.check("relax", set_mode(pci::ORACLE, oracle.group, "DMA-FQ"));
    bench.check(
        "relaxed-reaches",
        oracle.probe(1000).and_then(Sight::expect_most),
    );

    let rounds = bench.of(10, 40);
    let mut total = (0, 0);
    for round in 0..5 * rounds {
        // A slow machine has few probes in a round.
        if round >= rounds && total.1 >= ENOUGH {
            break;
        }
        match across(&oracle) {
            Ok((probes, after)) => total = (total.0 + probes, total.1 + after),
            Err(error) => {
                bench.check(
                    "probed-across-switches",
                    Err::<&str, _>(error.context(format!("round {round}"))),
                );
                break;
            }
        }
    }
    bench.check("probed-across-switches", enough(total));
    super::finish(bench, load);
    modules::unload(modules::LIVE)
}

/// The same by a raw write, at once, again and again: the first flush of the queue's timer is still to come.
fn armed_then_written(oracle: &Oracle) -> Result<String> {
    let rounds = 20;
    for _ in 0..rounds {
        write_type(oracle.group, "DMA-FQ")?;
        oracle.arm(ARMED)?;
        pci::write_type(oracle.group, "DMA")?;
        oracle.fire()?.expect_none()?;
    }
    Ok(format!("reached 0 of {} unmapped pages", rounds * ARMED))
}

fn enough((probes, after): (u64, u64)) -> Result<String> {
    ensure!(
        after >= ENOUGH,
        "only {after} probes came after a tighten returned: too few to say anything"
    );
    Ok(format!("{probes} probes across switches; none of the {after} unmaps after a tighten returned was reached"))
}

/// Tightens while the oracle probes without a pause: whatever was unmapped after the write returned must not be
/// reached. Returns the number of probes, and of those after the write.
fn across(oracle: &Oracle) -> Result<(u64, u64)> {
    write_type(oracle.group, "DMA-FQ")?;
    oracle.hammer()?;
    std::thread::sleep(Duration::from_millis(30));
    let before = oracle.result()?;
    let written = pci::write_type(oracle.group, "DMA");
    let returned = now()?;
    let at_return = oracle.result()?;
    std::thread::sleep(Duration::from_millis(60));
    let after = oracle.rest()?;
    written?;
    ensure!(
        before.reached > 0,
        "{before} while lazy: the oracle saw nothing to begin with"
    );
    ensure!(
        after.last_reached < returned,
        "STALE DMA: a page was reached whose unmap returned {} ns after the tighten had",
        after.last_reached - returned
    );
    Ok((after.probes, after.probes - at_return.probes))
}

fn now() -> Result<u64> {
    let time = clock_gettime(ClockId::CLOCK_MONOTONIC)?;
    Ok(time.tv_sec() as u64 * 1_000_000_000 + time.tv_nsec() as u64)
}

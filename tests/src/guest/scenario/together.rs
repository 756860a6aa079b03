// SPDX-License-Identifier: GPL-2.0-only
//! What a tighten of many groups at once costs beside that of one: none waits for another, nor for what is cleaned up behind it.

use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};

use super::rebind::behind_ports;
use super::{load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::{cli, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("together", together)];

/// Each of many may take so many times as long as one by itself.
const LIMIT: f64 = 3.0;
/// All of them may take so long, under emulation on a busy host: with a wait for a grace period each, or one behind another, they take
/// many times that.
const ALL: Duration = Duration::from_secs(10);

/// One group, and then all of them: by `iommuctl`, and by as many writers.
fn together(bench: &Bench) -> Result<()> {
    load_live()?;
    let groups = behind_ports()?;
    let first = groups.first().copied().context("there is no group")?;
    bench.fact("groups", groups.len());
    let rounds = bench.of(5, 15);
    let both = |name: &str, tighten: fn(&[u32]) -> Result<()>| -> Result<()> {
        let one = times(bench, &format!("{name}-one"), rounds, &[first], tighten)?;
        let all = times(bench, &format!("{name}-all"), rounds, &groups, tighten)?;
        bench.check(name, within(one, all, groups.len()));
        Ok(())
    };
    both("writers", writers)?;
    both("iommuctl", by_iommuctl)?;
    for group in &groups {
        write_type(*group, "DMA-FQ")?;
    }
    modules::unload(modules::LIVE)
}

pub(super) fn by_iommuctl(groups: &[u32]) -> Result<()> {
    let targets: Vec<String> = groups.iter().map(u32::to_string).collect();
    let line = format!("set-mode {} DMA", targets.join(" "));
    cli::iommuctl(&line)?.ended(0).map(|_| ())
}

/// As many `echo` as there are groups, at the same time.
pub(super) fn writers(groups: &[u32]) -> Result<()> {
    std::thread::scope(|scope| {
        let threads: Vec<_> = groups
            .iter()
            .map(|group| scope.spawn(|| pci::write_type(*group, "DMA")))
            .collect();
        for thread in threads {
            match thread.join() {
                Ok(written) => written.context("writing DMA")?,
                Err(_) => anyhow::bail!("a writer panicked"),
            }
        }
        Ok(())
    })
}

/// How long `tighten` takes, which makes all of `groups` strict.
pub(super) fn took(groups: &[u32], tighten: fn(&[u32]) -> Result<()>) -> Result<Duration> {
    for group in groups {
        write_type(*group, "DMA-FQ")?;
    }
    let begin = Instant::now();
    tighten(groups)?;
    let took = begin.elapsed();
    for group in groups {
        pci::expect_type(*group, "DMA")?;
    }
    Ok(took)
}

/// The median time of `tighten`, which makes all of `groups` strict.
fn times(
    bench: &Bench,
    name: &str,
    rounds: usize,
    groups: &[u32],
    tighten: fn(&[u32]) -> Result<()>,
) -> Result<Duration> {
    let mut times = Vec::with_capacity(rounds);
    for _ in 0..rounds {
        times.push(took(groups, tighten)?);
    }
    times.sort_unstable();
    let at = |index: usize| times.get(index).copied().unwrap_or_default();
    let (least, median, most) = (at(0), at(rounds / 2), at(rounds - 1));
    bench.fact(
        &format!("{name}-ms"),
        format!(
            "{} ({} to {})",
            median.as_millis(),
            least.as_millis(),
            most.as_millis()
        ),
    );
    Ok(median)
}

fn within(one: Duration, all: Duration, groups: usize) -> Result<String> {
    let ratio = all.as_secs_f64() / one.as_secs_f64();
    let told = format!("{ratio:.1} times as long as one group, all {groups} within {all:?}");
    ensure!(ratio <= LIMIT * groups as f64 && all <= ALL, "{told}");
    Ok(told)
}

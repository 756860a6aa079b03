// SPDX-License-Identifier: GPL-2.0-only
//! The rebind route: every change of type there is, with the drivers unbound and bound again.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{ensure, Context as _, Result};
use nix::sys::resource::{getrusage, UsageWho};
use serde_json::Value;

use super::Scenarios;
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::{cli, echo, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("rebind-orders", orders),
    ("rebind-cycles", cycles),
    ("rebind-many", many),
];

/// Every type after every other, each once (`auto` gives the kernel's default, which is `DMA-FQ` here).
const WALK: [&str; 13] = [
    "DMA", "DMA-FQ", "DMA", "identity", "DMA", "auto", "DMA-FQ", "identity", "DMA-FQ", "auto",
    "identity", "auto", "DMA",
];

/// What a request comes to.
pub(super) fn result_of(request: &str) -> &str {
    match request {
        "auto" => "DMA-FQ",
        other => other,
    }
}

/// Gives the group of the device at `address` the type `request`, by a rebind. The result is returned.
pub(super) fn rebind(address: &str, request: &str) -> Result<Value> {
    let group = pci::group(address)?;
    let said = cli::iommuctl(&format!(
        "--json set-mode --route rebind {address} {request}"
    ))?;
    let said = said.ended(0)?;
    pci::expect_type(group, result_of(request)).with_context(|| said.all())?;
    let document = said.json()?;
    let result = document.pointer("/results/0");
    result.cloned().with_context(|| said.all())
}

/// Disks write and read back; cards send and get back.
pub(super) fn works(address: &'static str) -> Result<String> {
    match address {
        pci::NETWORK => echo::NETWORK.check(),
        pci::PAIR_CARD => echo::PAIR.check(),
        disk => {
            let device = format!("/dev/{}", pci::block_device(disk)?);
            let load = Load::start(&device)?;
            std::thread::sleep(Duration::from_millis(200));
            let figures = load.finish()?;
            Ok(format!("{} I/Os on {device}", figures.done))
        }
    }
}

/// Every type after every other: a disk, a network card, and a group with one of each.
fn orders(bench: &Bench) -> Result<()> {
    bench.check("pair-is-one-group", pair());
    let groups: [(&str, &[&'static str]); 3] = [
        ("nvme", &[pci::DISK]),
        ("e1000", &[pci::NETWORK]),
        ("pair", &[pci::PAIR_DISK, pci::PAIR_CARD]),
    ];
    for (name, devices) in groups {
        bench.check(&format!("{name}-walks"), walk(bench, name, devices));
    }
    bench.check("dry-run-is-what-is-done", dry_run());
    Ok(())
}

/// Two devices, two drivers, one group.
fn pair() -> Result<String> {
    let (disk, card) = (pci::group(pci::PAIR_DISK)?, pci::group(pci::PAIR_CARD)?);
    ensure!(
        disk == card,
        "the disk is in group {disk}, the card in {card}"
    );
    Ok(format!("group {disk}"))
}

fn walk(bench: &Bench, name: &str, devices: &[&'static str]) -> Result<String> {
    let first = devices.first().context("no device")?;
    let drivers: Vec<_> = devices.iter().map(|d| pci::driver(d)).collect();
    let mut longest = 0.0_f64;
    let mut rebinds = 0;
    let mut before = pci::type_of(pci::group(first)?)?;
    for request in WALK {
        let step = || format!("from {before} to {request}");
        let result = rebind(first, request).with_context(step)?;
        for device in devices {
            works(device).with_context(step)?;
        }
        let now: Vec<_> = devices.iter().map(|d| pci::driver(d)).collect();
        ensure!(
            now == drivers,
            "{}: drivers {drivers:?}, then {now:?}",
            step()
        );
        let interrupted = result["interrupted"].as_array().map_or(0, Vec::len);
        let changes = result_of(request) != before || request == "auto";
        ensure!(
            interrupted == if changes { devices.len() } else { 0 },
            "{}: {result}",
            step()
        );
        for one in result["interrupted"].as_array().into_iter().flatten() {
            longest = longest.max(one["milliseconds"].as_f64().context("no time")?);
            rebinds += 1;
        }
        before = result_of(request).to_owned();
    }
    bench.fact(&format!("{name}-longest-interruption-ms"), longest);
    Ok(format!(
        "{} steps, {rebinds} rebinds, data whole after each",
        WALK.len()
    ))
}

/// What a dry run prints is what is written afterwards.
fn dry_run() -> Result<String> {
    let line = |more: &str| {
        format!(
            "--json set-mode {more} --route rebind {} identity",
            pci::PAIR_CARD
        )
    };
    let planned = cli::iommuctl(&line("--dry-run"))?.ended(0)?.json()?;
    let done = cli::iommuctl(&line(""))?.ended(0)?.json()?;
    let writes = |document: &Value| document.pointer("/results/0/writes").cloned();
    ensure!(
        writes(&planned) == writes(&done) && writes(&done).is_some(),
        "planned {planned}, done {done}"
    );
    rebind(pci::PAIR_CARD, "DMA-FQ")?;
    let count = writes(&done).and_then(|w| w.as_array().map(Vec::len));
    Ok(format!("{count:?} writes"))
}

/// Each pair of types, three times, with the bus scanned again, and with devices removed and found again.
fn cycles(bench: &Bench) -> Result<()> {
    for round in 1..=3 {
        for device in [pci::DISK_TWO, pci::NETWORK, pci::PAIR_DISK] {
            bench.check(&format!("round-{round}-{device}"), cycle(device));
        }
        for device in [pci::DISK_TWO, pci::NETWORK] {
            bench.check(
                &format!("round-{round}-removal-{device}"),
                removal(&[device]),
            );
        }
    }
    // Last: the kernel need not put them into one group again.
    let result = removal(&[pci::PAIR_DISK, pci::PAIR_CARD]);
    bench.check("removal-of-the-pair", result);
    let groups = (pci::group(pci::PAIR_DISK)?, pci::group(pci::PAIR_CARD)?);
    bench.fact("groups-of-the-pair-afterwards", format!("{groups:?}"));
    Ok(())
}

/// Every pair of types, the bus scanned again in between: nothing is bound or changed by that.
fn cycle(device: &'static str) -> Result<String> {
    let mut changes = 0;
    for from in ["DMA", "DMA-FQ", "identity"] {
        for to in ["DMA", "DMA-FQ", "identity", "auto"] {
            rebind(device, from)?;
            rebind(device, to).with_context(|| format!("from {from} to {to}"))?;
            works(device)?;
            fs::write("/sys/bus/pci/rescan", "1").context("cannot rescan")?;
            pci::expect_type(pci::group(device)?, result_of(to))?;
            works(device).context("after a rescan")?;
            changes += 1;
        }
    }
    Ok(format!("{changes} changes, each with a rescan"))
}

/// Found again, a device is a new one, in a new group of the kernel's default type, and can be rebound as before.
fn removal(devices: &[&'static str]) -> Result<String> {
    let first = devices.first().context("no device")?;
    rebind(first, "identity")?;
    for device in devices {
        fs::write(pci::folder(device).join("remove"), "1").context("cannot remove")?;
    }
    fs::write("/sys/bus/pci/rescan", "1").context("cannot rescan")?;
    for device in devices {
        works(device).context("after it was found again")?;
        pci::expect_type(pci::group(device)?, "DMA-FQ")?;
        for request in ["identity", "DMA", "auto"] {
            rebind(device, request)?;
            works(device)?;
        }
    }
    Ok(format!("{} removed and found again", devices.len()))
}

/// Sixty-four groups in one command: what it costs.
fn many(bench: &Bench) -> Result<()> {
    let groups = behind_ports()?;
    bench.fact("groups", groups.len());
    let targets = groups
        .iter()
        .map(u32::to_string)
        .collect::<Vec<_>>()
        .join(" ");
    for (request, name) in [("identity", "to-identity"), ("DMA-FQ", "and-back")] {
        bench.check(name, all_at_once(bench, &targets, request, &groups));
    }
    Ok(())
}

/// The groups of all disks behind ports.
pub fn behind_ports() -> Result<Vec<u32>> {
    let path = "/sys/bus/pci/drivers/nvme";
    let entries = fs::read_dir(path).with_context(|| format!("cannot read {path}"))?;
    let names = entries
        .flatten()
        .map(|e| e.file_name().to_string_lossy().into_owned());
    let disks = names.filter(|n| n.starts_with("0000:") && !n.starts_with("0000:00:"));
    disks.map(|disk| pci::group(&disk)).collect()
}

fn all_at_once(bench: &Bench, targets: &str, request: &str, groups: &[u32]) -> Result<String> {
    let begin = Instant::now();
    let line = format!("--json set-mode --route rebind {targets} {request}");
    let said = cli::iommuctl(&line)?.ended(0)?;
    let took = begin.elapsed();
    let document = said.json()?;
    let results = document["results"].as_array().context("no results")?;
    let mut writes = 0;
    let mut times = Vec::new();
    for result in results {
        ensure!(result["outcome"] == "changed", "{result}");
        writes += result["writes"].as_array().map_or(0, Vec::len);
        let one = result.pointer("/interrupted/0/milliseconds");
        times.push(one.and_then(Value::as_f64).context("no time")?);
    }
    ensure!(results.len() == groups.len(), "{} results", results.len());
    for group in groups {
        pci::expect_type(*group, request)?;
    }
    times.sort_by(f64::total_cmp);
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).context("cannot tell what children used")?;
    bench.fact(&format!("{request}-seconds"), took.as_secs_f64());
    bench.fact(
        &format!("{request}-interruption-median-ms"),
        times.get(times.len() / 2).copied().unwrap_or_default(),
    );
    bench.fact(
        &format!("{request}-interruption-longest-ms"),
        times.last().copied().unwrap_or_default(),
    );
    bench.fact(
        &format!("{request}-writes-per-group"),
        writes / groups.len(),
    );
    bench.fact("peak-memory-kib", usage.max_rss());
    Ok(format!(
        "{} groups in {took:?}, {writes} writes",
        groups.len()
    ))
}

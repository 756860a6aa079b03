// SPDX-License-Identifier: GPL-2.0-only
//! The main job: live switches of a disk that is being read and written, both ways.

use std::time::Instant;

use anyhow::{ensure, Context as _, Result};

use super::{disk, finish, load_live, set_mode, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::{cli, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("switch", switch),
    ("raw-write", raw_write),
    ("several", several),
    ("round-trips", round_trips),
];

/// Through `iommuctl set-mode`.
fn switch(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let load = Load::start(&device)?;
    bench.check("tighten", set_mode(&device, group, "DMA"));
    bench.check("still-working", working(&load));
    bench.check("again-is-success", again(&device, "DMA"));
    bench.check("relax", set_mode(&device, group, "DMA-FQ"));
    bench.check("again-is-success-lazy", again(&device, "DMA-FQ"));
    bench.check("dry-run-changes-nothing", dry_run(&device, group));
    bench.check("json", json(&device));
    bench.check("still-working-at-the-end", working(&load));
    finish(bench, load);
    Ok(())
}

/// The load goes on: I/Os are completed after this was called.
fn working(load: &Load) -> Result<String> {
    let before = load.lap().done;
    let begin = Instant::now();
    while load.lap().done < before + 50 {
        ensure!(
            begin.elapsed().as_secs() < 20,
            "no 50 I/Os were completed in 20 s"
        );
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    Ok(format!("50 I/Os in {} ms", begin.elapsed().as_millis()))
}

fn again(device: &str, wanted: &str) -> Result<String> {
    let said = cli::iommuctl(&format!("set-mode {device} {wanted}"))?
        .ended(0)?
        .mentions(&["already"])?;
    Ok(said.out)
}

fn dry_run(device: &str, group: u32) -> Result<String> {
    let before = pci::type_of(group)?;
    let said = cli::iommuctl(&format!("set-mode --dry-run {device} DMA"))?.ended(0)?;
    pci::expect_type(group, &before)?;
    Ok(said.out)
}

fn json(device: &str) -> Result<String> {
    let said = cli::iommuctl(&format!("set-mode --json {device} DMA"))?.ended(0)?;
    said.json()?;
    cli::iommuctl(&format!("set-mode {device} DMA-FQ"))?.ended(0)?;
    Ok(said.out)
}

/// Through a raw write, as a script does with `echo`.
fn raw_write(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let load = Load::start(&device)?;
    bench.check("echo-tightens", write_type(group, "DMA"));
    bench.check("echo-relaxes", write_type(group, "DMA-FQ"));
    bench.check("nonsense-is-refused", nonsense(group));
    finish(bench, load);
    Ok(())
}

fn nonsense(group: u32) -> Result<String> {
    let Err(error) = pci::write_type(group, "lazy") else {
        anyhow::bail!("the kernel took the type `lazy`");
    };
    ensure!(
        error.raw_os_error() == Some(nix::libc::EINVAL),
        "expected EINVAL, got {error}"
    );
    pci::expect_type(group, "DMA-FQ")
}

/// Several targets at once, and each way to name one.
fn several(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    let other = pci::group(pci::DISK_TWO)?;
    let card = pci::group(pci::NETWORK)?;
    let load = Load::start(&device)?;
    let targets = format!(
        "{device} {} {}",
        pci::DISK_TWO,
        pci::interface(pci::NETWORK)?
    );
    for wanted in ["DMA", "DMA-FQ"] {
        let name = if wanted == "DMA" {
            "tighten-three"
        } else {
            "relax-three"
        };
        bench.check(name, all_of(&targets, wanted, &[group, other, card]));
        let name = if wanted == "DMA" {
            "tighten-by-driver"
        } else {
            "relax-by-driver"
        };
        let opposite = if wanted == "DMA" { "DMA-FQ" } else { "DMA" };
        for one in [group, other] {
            write_type(one, opposite)?;
        }
        bench.check(name, all_of("driver:nvme", wanted, &[group, other]));
    }
    let everything = pci::groups()?;
    bench.check("tighten-all", all_of("all", "DMA", &everything));
    bench.check("relax-all", all_of("all", "DMA-FQ", &everything));
    finish(bench, load);
    Ok(())
}

fn all_of(targets: &str, wanted: &str, groups: &[u32]) -> Result<String> {
    let said = cli::iommuctl(&format!("set-mode {targets} {wanted}"))?.ended(0)?;
    for group in groups {
        pci::expect_type(*group, wanted).with_context(|| said.all())?;
    }
    Ok(said.out)
}

/// What the kernel has in per-CPU memory, in KiB: each flush queue is some 30 of them.
fn per_cpu_memory() -> Result<u64> {
    let text = std::fs::read_to_string("/proc/meminfo").context("cannot read /proc/meminfo")?;
    let line = text.lines().find_map(|line| line.strip_prefix("Percpu:"));
    let value = line.and_then(|line| line.split_whitespace().next());
    value
        .context("/proc/meminfo has no Percpu")?
        .parse()
        .context("Percpu is no number")
}

fn grown(before: u64, after: u64) -> Result<String> {
    ensure!(
        after <= before + 512,
        "per-CPU memory has grown from {before} to {after} KiB"
    );
    Ok(format!(
        "per-CPU memory was {before} KiB and is {after} KiB"
    ))
}

/// Many round trips under load: nothing fails, nothing is wrong, nothing is lost.
fn round_trips(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let load = Load::start(&device)?;
    let rounds = bench.of(200, 500);
    let before = per_cpu_memory()?;
    let mut times: Vec<u128> = Vec::with_capacity(rounds);
    for round in bench.rounds(rounds) {
        let begin = Instant::now();
        write_type(group, "DMA").with_context(|| format!("round {round}"))?;
        times.push(begin.elapsed().as_millis());
        write_type(group, "DMA-FQ").with_context(|| format!("round {round}"))?;
    }
    bench.check("nothing-leaks", grown(before, per_cpu_memory()?));
    times.sort_unstable();
    bench.fact("round-trips", rounds);
    bench.fact(
        "tighten-median-ms",
        times.get(rounds / 2).copied().unwrap_or_default(),
    );
    bench.fact(
        "tighten-longest-ms",
        times.last().copied().unwrap_or_default(),
    );
    bench.check(
        "round-trips",
        Ok::<_, anyhow::Error>(format!("{rounds} of {rounds}")),
    );
    finish(bench, load);
    modules::unload(modules::LIVE)
}

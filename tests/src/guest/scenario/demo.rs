// SPDX-License-Identifier: GPL-2.0-only
//! The main job, told.

use std::time::Duration;

use anyhow::{ensure, Result};
use nix::errno::Errno;

use super::{disk, load_live, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::{Figures, Load};
use crate::guest::oracle::{Oracle, Sight};
use crate::guest::{cli, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("demo", demo)];

/// Pages per look of the oracle.
const PAGES: usize = 1000;

/// Groups, a load, the oracle, a live tighten, the oracle, a live relax, the oracle; the load never stops.
fn demo(bench: &Bench) -> Result<()> {
    let (group, device) = disk()?;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease")?;
    bench.say(format!(
        "A stock kernel, {}, with an Intel IOMMU, two NVMe disks and two network cards.",
        kernel.trim()
    ));
    run(bench, "list", 0)?;

    bench.say(format!("Two readers and a writer with checksums start on {device} (group {group}), all direct I/O."));
    let load = Load::start(&device)?;
    std::thread::sleep(Duration::from_millis(500));
    bench.say(format!("{} I/Os so far.", load.lap().done));

    let oracle = Oracle::attach()?;
    bench.say(format!(
        "The oracle is a network card ({}) that is told to use memory after the kernel took it away.",
        pci::ORACLE
    ));
    look(bench, "lazy-reaches", &oracle, Sight::expect_most)?;

    bench.say("The kernel alone refuses to tighten a disk in use:");
    refused(bench, group)?;
    bench.say("iommuctl knows, and says what would work:");
    run(bench, &format!("set-mode {device} DMA"), 3)?;
    bench.say("With the module it is live:");
    bench.say("# insmod iommu_live.ko");
    load_live()?;
    load.lap();
    run(bench, &format!("set-mode {device} {} DMA", pci::ORACLE), 0)?;
    gap(bench, "tighten", load.lap());
    bench.check("disk-is-strict", pci::expect_type(group, "DMA"));
    look(
        bench,
        "tightened-reaches-nothing",
        &oracle,
        Sight::expect_none,
    )?;

    bench.say("And back:");
    load.lap();
    run(
        bench,
        &format!("set-mode {device} {} DMA-FQ", pci::ORACLE),
        0,
    )?;
    gap(bench, "relax", load.lap());
    bench.check("disk-is-lazy", pci::expect_type(group, "DMA-FQ"));
    look(bench, "relaxed-reaches", &oracle, Sight::expect_most)?;

    let result = load.finish();
    if let Ok(figures) = &result {
        bench.say(format!(
            "The load never stopped: {} I/Os, none failed, every block as written.",
            figures.done
        ));
    }
    bench.check("load", result.map(|figures| figures.done));
    Ok(())
}

/// Runs `iommuctl` and shows what a person at the machine would see.
fn run(bench: &Bench, line: &str, code: i32) -> Result<()> {
    let said = cli::iommuctl(line)?;
    let text = [said.out.as_str(), said.err.as_str()].join("\n");
    bench.say(format!("$ iommuctl {line}\n{}", text.trim()));
    said.ended(code).map(|_| ())
}

/// Asks the kernel itself, as a shell would.
fn refused(bench: &Bench, group: u32) -> Result<()> {
    let answer = pci::write_type(group, "DMA");
    let error = match &answer {
        Ok(()) => "(no error)".to_owned(),
        Err(error) => match error.raw_os_error() {
            Some(number) => format!("write error: {}", Errno::from_raw(number).desc()),
            None => format!("write error: {error}"),
        },
    };
    bench.say(format!(
        "# echo DMA > /sys/kernel/iommu_groups/{group}/type\n{error}"
    ));
    ensure!(answer.is_err(), "the kernel did it without the module");
    Ok(())
}

fn look(
    bench: &Bench,
    name: &str,
    oracle: &Oracle,
    expect: fn(Sight) -> Result<Sight>,
) -> Result<()> {
    let sight = oracle.probe(PAGES)?;
    bench.say(format!("Oracle: the card {sight}."));
    bench.check(name, expect(sight));
    Ok(())
}

fn gap(bench: &Bench, what: &str, figures: Figures) {
    let milliseconds = figures.longest_gap as f64 / 1e6;
    bench.fact(&format!("{what}-gap-us"), figures.longest_gap / 1000);
    bench.say(format!(
        "Meanwhile no I/O waited longer than {milliseconds:.1} ms; {} failed.",
        figures.errors
    ));
}

// SPDX-License-Identifier: GPL-2.0-only
//! What is done and looked at inside the machine. A scenario returns an error when it cannot go on; everything it
//! looks at on the way is a check.

mod audit;
mod bench_device;
mod cleaning;
mod concerns;
mod demo;
mod device_iotlb;
mod errors;
mod external;
mod faults;
mod figures;
mod in_use;
mod inventory;
mod leaving;
mod loads;
mod mutants;
mod oracle;
mod policy;
mod preempt_rt;
mod rebind;
mod recover;
mod reload;
mod reports;
mod soak;
mod stock;
mod stragglers;
mod switch;
mod tasks;
mod together;

use anyhow::{Context as _, Result};

use super::bench::Bench;
use super::load::{Figures, Load};
use super::{cli, modules, pci};

/// A scenario.
pub type Scenario = fn(&Bench) -> Result<()>;

/// Scenarios by their names.
type Scenarios = &'static [(&'static str, Scenario)];

/// Every scenario there is, by the file that it is in.
const ALL: &[Scenarios] = &[
    audit::SCENARIOS,
    bench_device::SCENARIOS,
    cleaning::SCENARIOS,
    concerns::SCENARIOS,
    demo::SCENARIOS,
    device_iotlb::SCENARIOS,
    errors::SCENARIOS,
    external::SCENARIOS,
    faults::SCENARIOS,
    figures::SCENARIOS,
    in_use::SCENARIOS,
    inventory::SCENARIOS,
    leaving::SCENARIOS,
    loads::SCENARIOS,
    mutants::SCENARIOS,
    oracle::SCENARIOS,
    policy::SCENARIOS,
    preempt_rt::SCENARIOS,
    rebind::SCENARIOS,
    recover::SCENARIOS,
    reload::SCENARIOS,
    reports::SCENARIOS,
    soak::SCENARIOS,
    stock::SCENARIOS,
    stragglers::SCENARIOS,
    switch::SCENARIOS,
    tasks::SCENARIOS,
    together::SCENARIOS,
    // A machine that is only looked at from outside.
    &[("idle", |_| Ok(()))],
];

/// The scenario with this name.
pub fn find(name: &str) -> Option<Scenario> {
    ALL.iter()
        .flat_map(|scenarios| scenarios.iter())
        .find(|(known, _)| *known == name)
        .map(|(_, work)| *work)
}

/// Puts a group to `wanted` through `iommuctl set-mode`, and makes sure that the kernel reads so afterwards.
fn set_mode(target: &str, group: u32, wanted: &str) -> Result<String> {
    let said = cli::iommuctl(&format!("set-mode {target} {wanted}"))?.ended(0)?;
    pci::expect_type(group, wanted)?;
    Ok(said.out)
}

/// Puts a group to `wanted` by a raw write, whatever it is now.
fn write_type(group: u32, wanted: &str) -> Result<String> {
    if pci::type_of(group)? != wanted {
        pci::write_type(group, wanted)
            .with_context(|| format!("writing {wanted} to the type of group {group}"))?;
    }
    pci::expect_type(group, wanted)
}

/// The first disk: its group, and its path.
fn disk() -> Result<(u32, String)> {
    Ok((
        pci::group(pci::DISK)?,
        format!("/dev/{}", pci::block_device(pci::DISK)?),
    ))
}

/// Loads the module under test.
fn load_live() -> Result<()> {
    modules::load_ours(modules::LIVE)
}

/// Stops a load and reports what it did.
fn finish(bench: &Bench, load: Load) {
    let figures = load.finish();
    if let Ok(figures) = &figures {
        bench.fact("io-completed", figures.done);
        bench.fact("io-longest-gap-us", figures.longest_gap / 1000);
    }
    let describe =
        |figures: Figures| format!("{} I/Os, none failed, every block as written", figures.done);
    bench.check("load", figures.map(describe));
}

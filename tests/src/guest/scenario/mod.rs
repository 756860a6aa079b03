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

/// Every scenario there is.
const ALL: [(&str, Scenario); 81] = [
    ("inventory", inventory::inventory),
    ("targets", inventory::targets),
    ("without-module", stock::without_module),
    ("not-live", stock::not_live),
    ("errors", errors::errors),
    ("no-iommu", errors::no_iommu),
    ("oracle-stock", oracle::stock),
    ("oracle-strict-boot", oracle::strict_boot),
    ("oracle-live", oracle::live),
    ("switch", switch::switch),
    ("raw-write", switch::raw_write),
    ("several", switch::several),
    ("round-trips", switch::round_trips),
    ("reports", reports::reports),
    ("denied", reports::denied),
    ("two-writers", reports::two_writers),
    ("stragglers", stragglers::stragglers),
    ("across-each-wait", stragglers::across_each_wait),
    ("starved", stragglers::starved),
    ("final-flush", stragglers::final_flush),
    ("late-soak", stragglers::late_soak),
    ("let-go-after", mutants::after),
    ("let-go-meanwhile", mutants::meanwhile),
    ("tripwire", mutants::tripwire),
    ("leaks", stragglers::leaks),
    ("last-device-leaves", leaving::last_device),
    ("module-leaves", leaving::module),
    ("flag-without-queue", concerns::flag_without_queue),
    ("barrier-while-deferred", concerns::barrier_while_deferred),
    ("race-with-itself", concerns::race_with_itself),
    ("mode-not-atomic", concerns::mode_not_atomic),
    ("asleep-at-the-ring", preempt_rt::asleep_at_the_ring),
    ("polled", tasks::polled),
    ("threaded", tasks::threaded),
    ("while-cleaning-up", cleaning::while_cleaning_up),
    ("loads", loads::loads),
    ("late-comers", loads::late_comers),
    ("many-trips", loads::many_trips),
    ("device-iotlb", device_iotlb::round_trips),
    ("soak", soak::soak),
    ("together", together::together),
    ("figures-gaps", figures::gaps),
    ("figures-strict", figures::strict),
    ("figures-costs", figures::costs),
    ("figures-kernel-map", figures::kernel_map),
    ("figures-many", figures::many),
    ("processors-go", faults::processors),
    ("driver-goes", faults::driver),
    ("device-goes", faults::removal),
    ("function-reset", faults::reset),
    ("crowd", faults::crowd),
    ("vfio-takes", faults::vfio_takes),
    ("suspends", faults::suspends),
    ("no-memory", faults::memory),
    ("reload", reload::reload),
    ("reload-while-switching", reload::while_switching),
    ("unload-keeps-types", reload::keeps_types),
    ("other-kernel", reload::other_kernel),
    ("unaudited-kernel", reload::unaudited_kernel),
    ("untrusted", external::untrusted),
    ("bench-device", bench_device::with_module),
    ("bench-device-without-module", bench_device::without_module),
    ("rebind-orders", rebind::orders),
    ("rebind-cycles", rebind::cycles),
    ("rebind-in-use", in_use::in_use),
    ("rebind-killed", recover::killed),
    ("rebind-killed-at-random", recover::killed_at_random),
    ("rebind-stopped", recover::stopped),
    ("rebind-waits-its-turn", recover::waits_its_turn),
    ("rebind-many", rebind::many),
    ("policy", policy::apply),
    ("policy-without-module", policy::without_module),
    ("policy-rebind", policy::rebind),
    ("policy-external", policy::external),
    ("lockdown", policy::lockdown),
    ("audit-who", audit::who),
    ("audit-found", audit::found),
    ("audit-unrecorded", audit::unrecorded),
    ("audit-flood", audit::flood),
    ("demo", demo::demo),
    ("idle", |_| Ok(())),
];

/// The scenario with this name.
pub fn find(name: &str) -> Option<Scenario> {
    ALL.iter()
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

// SPDX-License-Identifier: GPL-2.0-only
//! End to end: a stock kernel in a virtual machine, `iommuctl`, the module, and devices at work.
//!
//! Each test is one scenario on one machine. `src/host/vm/machines.rs` and `src/host/vm/matrix.rs` list the machines with their
//! scenarios; what a scenario does and looks at is in `src/guest/scenario/`. Beside those there are whole systems.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Result;
use iommuctl_tests::host::build::cache::Cache;
use iommuctl_tests::host::mutants::MUTANTS;
use iommuctl_tests::host::packages::{deb, package_lifecycle};
use iommuctl_tests::host::systems::{fleet, system};
use iommuctl_tests::host::vm::machines::{self, Kind, Suite};
use iommuctl_tests::host::vm::suite::Tested;
use libtest_mimic::{Arguments, Failed, Trial};

fn main() -> ExitCode {
    let arguments = Arguments::from_args();
    let tested = machines::all().filter(|kind| kind.suite != Suite::Neither);
    let mut trials: Vec<Trial> = tested.flat_map(scenarios).collect();
    let mutants = MUTANTS.iter();
    trials.extend(mutants.map(|mutant| long("mutant", mutant.name, || mutant.survives())));
    trials.push(long("systems", "boot", || system::run(&[], |_| {})));
    trials.push(long("systems", "fleet", fleet::run));
    trials.push(long("packages", "life-cycle", || {
        package_lifecycle::run(|_| {})
    }));
    trials.push(long("packages", "reproducible", || {
        let cache = Cache::open()?;
        let _lock = cache.lock()?;
        deb::reproduce(&cache).map(|()| None)
    }));
    libtest_mimic::run(&arguments, trials).exit_code()
}

/// The scenarios of a machine. Those of `make test-full` are marked as ignored.
fn scenarios(kind: &'static Kind) -> impl Iterator<Item = Trial> {
    let machine = Arc::new(Tested::new(kind));
    kind.scenarios.iter().map(move |scenario| {
        let machine = machine.clone();
        let name = format!("{}::{scenario}", kind.name);
        let trial = Trial::test(name, move || ended(machine.failure(scenario)));
        trial.with_ignored_flag(kind.suite == Suite::TestFull)
    })
}

/// A test of `make test-full`.
fn long(
    folder: &str,
    name: &str,
    work: impl FnOnce() -> Result<Option<String>> + Send + 'static,
) -> Trial {
    let run = || match work() {
        Ok(failure) => ended(failure),
        Err(error) => Err(format!("{error:#}").into()),
    };
    Trial::test(format!("{folder}::{name}"), run).with_ignored_flag(true)
}

fn ended(failure: Option<String>) -> Result<(), Failed> {
    failure.map_or(Ok(()), |failure| Err(failure.into()))
}

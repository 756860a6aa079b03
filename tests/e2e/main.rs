// SPDX-License-Identifier: GPL-2.0-only
//! End to end: a stock kernel in a virtual machine, `iommuctl`, the module, and devices at work.
//!
//! Each test is one scenario; what it does and looks at is in `src/guest/scenario/`.

mod arm;
mod audit;
mod bench;
mod concerns;
mod debug;
mod errors;
mod faults;
mod fleet;
mod inventory;
mod loads;
mod matrix;
mod mutants;
mod oracle;
mod packages;
mod policy;
mod rebind;
mod reload;
mod reports;
mod stock;
mod switch;
mod system;

use iommuctl_tests::host::vm::machines::kind;
use iommuctl_tests::host::vm::suite;

/// Fails with everything that was wrong, and where the machine's log is.
#[track_caller]
#[expect(
    clippy::panic,
    reason = "this is how a test fails; only functions marked as tests are exempt by themselves"
)]
fn holds(machine: &str, scenario: &str) {
    if let Some(failure) = suite::failure(machine, scenario) {
        panic!("{failure}");
    }
}

/// Fails with everything that was wrong in all that these machines run.
#[track_caller]
fn all_hold(machines: &[&str]) {
    let mut failures = Vec::new();
    for machine in machines {
        match kind(machine) {
            Ok(kind) => {
                let scenarios = kind.scenarios.iter();
                let failed = scenarios.filter_map(|scenario| suite::failure(machine, scenario));
                failures.extend(failed.map(|failure| format!("{machine}: {failure}")));
            }
            Err(error) => failures.push(error.to_string()),
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

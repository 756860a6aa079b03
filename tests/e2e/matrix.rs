// SPDX-License-Identifier: GPL-2.0-only
//! Other IOMMUs and other kernels: each cell of the matrix is as it says.

use iommuctl_tests::host::matrix::CELLS;
use iommuctl_tests::host::suite;

/// The cells that are chosen, or everything that went wrong in them.
#[track_caller]
fn cells(chosen: impl Fn(&str) -> bool) {
    let machines = CELLS.iter().map(|cell| &cell.machine);
    let failures: Vec<String> = machines
        .filter(|machine| chosen(machine.name))
        .flat_map(|machine| {
            machine
                .scenarios
                .iter()
                .map(|scenario| (machine.name, scenario))
        })
        .filter_map(|(machine, scenario)| {
            Some(format!("{machine}: {}", suite::failure(machine, scenario)?))
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

/// The two that need no other kernel than all else, and take another way than Intel's.
const QUICK: [&str; 2] = ["amd", "virtio"];

#[test]
fn amd_switches_live() {
    cells(|name| name == QUICK[0]);
}

#[test]
fn virtio_switches_live() {
    cells(|name| name == QUICK[1]);
}

#[test]
#[ignore = "a machine for each cell, and modules for other kernels"]
fn each_cell_is_as_it_says() {
    cells(|name| !QUICK.contains(&name));
}

// SPDX-License-Identifier: GPL-2.0-only
//! Other IOMMUs and other kernels: each cell of the matrix is as it says.

use iommuctl_tests::host::vm::matrix::CELLS;

use crate::all_hold;

/// Those that need no other kernel than all else, and take another way than Intel's.
const AMD: &str = "amd";
const VIRTIO: &str = "virtio";

#[test]
fn amd_switches_live() {
    all_hold(&[AMD]);
}

#[test]
fn virtio_switches_live() {
    all_hold(&[VIRTIO]);
}

#[test]
#[ignore = "a machine for each cell, and modules for other kernels"]
fn each_cell_is_as_it_says() {
    let machines = CELLS.iter().map(|cell| cell.machine.name);
    let others: Vec<_> = machines
        .filter(|name| ![AMD, VIRTIO].contains(name))
        .collect();
    all_hold(&others);
}

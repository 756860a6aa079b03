// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl bench`: both types where there is a way back, and the first one again whatever is killed.

use crate::holds;

#[test]
fn a_bench_measures_both_types_and_puts_the_first_back() {
    holds("module", "bench-device");
}

#[test]
fn a_bench_without_a_way_back_changes_nothing() {
    holds("plain", "bench-device-without-module");
}

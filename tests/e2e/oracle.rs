// SPDX-License-Identifier: GPL-2.0-only
//! The stale-DMA oracle, both sides.

use crate::holds;

#[test]
fn a_lazy_group_lets_a_device_reach_unmapped_memory() {
    holds("plain", "oracle-stock");
}

#[test]
fn a_kernel_that_boots_strict_does_not() {
    holds("strict", "oracle-strict-boot");
}

#[test]
fn after_a_live_tighten_nothing_is_reached() {
    holds("module", "oracle-live");
}

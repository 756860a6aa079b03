// SPDX-License-Identifier: GPL-2.0-only
//! With the module: live switches of devices at work, both ways.

use crate::holds;

#[test]
fn set_mode_switches_a_disk_at_work() {
    holds("module", "switch");
}

#[test]
fn a_raw_write_switches_a_disk_at_work() {
    holds("module", "raw-write");
}

#[test]
fn several_targets_switch_together() {
    holds("module", "several");
}

#[test]
fn many_groups_are_strict_soon() {
    holds("together", "together");
}

#[test]
fn round_trips_under_load_lose_nothing() {
    holds("module", "round-trips");
}

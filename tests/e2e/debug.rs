// SPDX-License-Identifier: GPL-2.0-only
//! On kernels that watch themselves, with hold points in the unmap path. Their logs must stay clean, as everywhere.
//! Long: only in `make test-full`.

use crate::{all_hold, holds};

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_tighten_waits_for_no_straggler_and_each_is_strict() {
    holds("stragglers", "stragglers");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn each_step_of_a_clean_up_waits_for_its_straggler() {
    holds("stragglers", "across-each-wait");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_starved_straggler_holds_up_nothing_but_the_clean_up() {
    holds("stragglers", "starved");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn what_was_queued_before_a_tighten_is_flushed_by_it() {
    holds("stragglers", "final-flush");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn the_last_device_leaves_while_a_switch_is_cleaned_up() {
    holds("stragglers", "last-device-leaves");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn the_module_stays_while_a_switch_is_cleaned_up() {
    holds("stragglers", "module-leaves");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_copy_of_a_domains_operations_is_as_safe() {
    all_hold(&["kept"]);
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn unmaps_by_tasks_that_poll_cross_switches() {
    holds("tasks", "polled");
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn unmaps_by_interrupt_threads_cross_switches() {
    holds("tasks", "threaded");
}

/// The suites of the stock kernel that switch, load and unload, and a look for what they left in memory.
#[test]
#[ignore = "needs a kernel with checks, and time"]
fn the_suites_of_the_stock_kernel_report_nothing() {
    all_hold(&["checks"]);
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_great_many_round_trips_report_nothing_and_leave_nothing() {
    all_hold(&["soak"]);
}

#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_great_many_round_trips_beside_loads_that_never_sleep() {
    all_hold(&["trips"]);
}

#[test]
#[ignore = "needs a kernel that watches for data races, and time"]
fn no_data_race_is_seen() {
    all_hold(&["races"]);
}

#[test]
#[ignore = "needs a kernel whose spin locks sleep, and time"]
fn what_a_sleeper_at_the_ring_queues_is_flushed() {
    holds("realtime", "asleep-at-the-ring");
}

#[test]
#[ignore = "needs a kernel whose spin locks sleep, and time"]
fn the_suites_hold_where_spin_locks_sleep() {
    all_hold(&["realtime"]);
}

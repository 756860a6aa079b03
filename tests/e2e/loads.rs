// SPDX-License-Identifier: GPL-2.0-only
//! Switches beside loads that never sleep, and what happens while they are cleaned up.

use crate::holds;

#[test]
fn a_tighten_is_strict_at_once_beside_loads_that_never_sleep() {
    holds("loads", "loads");
}

#[test]
fn nothing_waits_for_a_clean_up_that_does_not_end() {
    holds("loads", "while-cleaning-up");
}

#[test]
fn real_late_comers_are_seen_and_accounted_for() {
    holds("loads", "late-comers");
}

#[test]
fn stragglers_are_strict_and_hold_up_nobody() {
    holds("held", "stragglers");
}

#[test]
fn each_step_of_a_clean_up_waits_for_its_straggler() {
    holds("held", "across-each-wait");
}

#[test]
fn the_last_device_leaves_while_its_switch_is_cleaned_up() {
    holds("held", "last-device-leaves");
}

#[test]
fn the_module_stays_while_a_switch_is_cleaned_up() {
    holds("held", "module-leaves");
}

#[test]
fn late_comers_leave_nothing_behind() {
    holds("held", "late-soak");
}

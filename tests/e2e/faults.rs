// SPDX-License-Identifier: GPL-2.0-only
//! Switches while the machine changes under them.

use crate::holds;

#[test]
fn processors_go_and_come() {
    holds("faults", "processors-go");
}

#[test]
fn a_driver_goes_and_comes() {
    holds("faults", "driver-goes");
}

#[test]
fn a_device_goes_and_comes() {
    holds("faults", "device-goes");
}

#[test]
fn a_function_is_reset() {
    holds("faults", "function-reset");
}

#[test]
fn sixty_four_writers_of_everything() {
    holds("faults", "crowd");
}

#[test]
fn a_group_goes_to_user_space_and_comes_back() {
    holds("faults", "vfio-takes");
}

#[test]
fn the_machine_sleeps_and_wakes() {
    holds("faults", "suspends");
}

#[test]
fn twenty_five_groups_are_switched_without_a_pause() {
    holds("many", "soak");
}

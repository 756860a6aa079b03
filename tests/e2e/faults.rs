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

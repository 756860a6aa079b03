// SPDX-License-Identifier: GPL-2.0-only
//! The rebind route, on a stock kernel without the module.

use crate::holds;

#[test]
fn every_type_after_every_other() {
    holds("rebind", "rebind-orders");
}

#[test]
fn full_cycles_with_rescans_and_removals() {
    holds("rebind", "rebind-cycles");
}

#[test]
fn what_is_in_use_is_refused_and_not_touched() {
    holds("rebind", "rebind-in-use");
}

#[test]
fn killed_at_every_step_it_is_recovered() {
    holds("rebind", "rebind-killed");
}

#[test]
fn killed_at_any_moment_it_is_recovered() {
    holds("rebind", "rebind-killed-at-random");
}

#[test]
fn a_signal_stops_it_with_everything_bound() {
    holds("rebind", "rebind-stopped");
}

#[test]
fn one_writer_at_a_time() {
    holds("rebind", "rebind-waits-its-turn");
}

#[test]
fn sixty_four_groups_in_one_command() {
    holds("rebind-many", "rebind-many");
}

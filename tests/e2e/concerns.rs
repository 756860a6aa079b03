// SPDX-License-Identifier: GPL-2.0-only
//! The five concerns raised when a live switch was first discussed on the kernel's mailing list, in August 2021. Each is
//! made to happen, on a kernel with hold points. Long: only in `make test-full`.

use crate::holds;

/// "`fq_domain` is seen while `fq` is still NULL."
#[test]
#[ignore = "needs a kernel with checks, and time"]
fn the_flag_is_seen_before_the_queue_is_there() {
    holds("concerns", "flag-without-queue");
}

/// "A barrier in the page-table code is missed while reclaim is deferred."
#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_barrier_is_missed_while_reclaim_is_deferred() {
    holds("concerns", "barrier-while-deferred");
}

/// "The switch races with itself."
#[test]
#[ignore = "needs a kernel with checks, and time"]
fn a_switch_races_with_itself() {
    holds("concerns", "race-with-itself");
}

/// "An error path flips the type back after somebody has seen it."
#[test]
#[ignore = "needs a kernel with checks, and time"]
fn an_error_path_flips_the_type_back() {
    holds("concerns", "no-memory");
}

/// "The mode is not one atomic state."
#[test]
#[ignore = "needs a kernel with checks, and time"]
fn the_mode_is_not_one_atomic_state() {
    holds("concerns", "mode-not-atomic");
}

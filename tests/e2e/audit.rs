// SPDX-License-Identifier: GPL-2.0-only
//! The audit: who changed what, and whether it can be relied upon.

use super::holds;

#[test]
fn whoever_changes_a_group_is_in_the_log() {
    holds("audit", "audit-who");
}

#[test]
fn what_nobody_told_of_is_found() {
    holds("audit", "audit-found");
}

#[test]
fn nothing_is_changed_that_cannot_be_recorded() {
    holds("audit", "audit-unrecorded");
}

#[test]
fn a_flood_of_writes_is_recorded_whole() {
    holds("audit", "audit-flood");
}

// SPDX-License-Identifier: GPL-2.0-only
//! Every switch is reported, and the module refuses what the kernel forgets to.

use crate::holds;

#[test]
fn every_switch_is_an_event_and_a_count() {
    holds("module", "reports");
}

#[test]
fn a_writer_without_the_rights_is_counted_and_makes_no_event() {
    holds("module", "denied");
}

#[test]
fn two_writers_make_one_story() {
    holds("module", "two-writers");
}

#[test]
fn an_untrusted_device_is_never_relaxed() {
    holds("external", "untrusted");
}

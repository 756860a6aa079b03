// SPDX-License-Identifier: GPL-2.0-only
//! Policies and the lockdown.

use crate::holds;

#[test]
fn a_policy_switches_the_disk_under_load_and_nothing_else() {
    holds("module", "policy");
}

#[test]
fn what_a_rule_cannot_have_without_the_module_is_said() {
    holds("plain", "policy-without-module");
}

#[test]
fn a_rule_that_allows_a_rebind_interrupts_what_is_free_and_nothing_else() {
    holds("plain", "policy-rebind");
}

#[test]
fn no_policy_and_no_release_relaxes_an_external_device() {
    holds("external", "policy-external");
}

#[test]
fn a_lockdown_makes_everything_strict_and_a_release_restores_it() {
    holds("module", "lockdown");
}

// SPDX-License-Identifier: GPL-2.0-only
//! `list`, `show`, `status` and the ways to name a target, on a real kernel.

use crate::holds;

#[test]
fn list_show_and_status_agree_with_sysfs() {
    holds("plain", "inventory");
}

#[test]
fn every_kind_of_target_leads_to_its_group() {
    holds("plain", "targets");
}

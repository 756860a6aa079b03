// SPDX-License-Identifier: GPL-2.0-only
//! What `iommuctl` says when it cannot.

use crate::holds;

#[test]
fn mistakes_have_their_own_messages_and_exit_codes() {
    holds("plain", "errors");
}

#[test]
fn without_an_iommu_it_says_how_to_turn_it_on() {
    holds("off", "no-iommu");
}

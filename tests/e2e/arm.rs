// SPDX-License-Identifier: GPL-2.0-only
//! On arm64, behind an SMMU. Needs a compiler, an emulator and a kernel that nothing else needs: only in `make test-full`.

use crate::{all_hold, holds};

#[test]
#[ignore = "needs what is built for arm64"]
fn everything_is_shown_as_it_is() {
    holds("arm", "inventory");
}

#[test]
#[ignore = "needs what is built for arm64"]
fn without_the_module_tightening_is_refused_and_relaxing_works() {
    holds("arm", "without-module");
}

#[test]
#[ignore = "needs what is built for arm64"]
fn a_lazy_group_lets_a_device_reach_unmapped_memory() {
    holds("arm", "oracle-stock");
}

#[test]
#[ignore = "needs what is built for arm64"]
fn every_mistake_has_its_own_message() {
    holds("arm", "errors");
}

#[test]
#[ignore = "needs what is built for arm64"]
fn a_kernel_that_boots_as_it_is_does_not() {
    holds("arm-strict", "oracle-strict-boot");
}

#[test]
#[ignore = "needs what is built for arm64"]
fn with_the_module_all_is_as_elsewhere() {
    all_hold(&["arm-module"]);
}

// SPDX-License-Identifier: GPL-2.0-only
//! Without the module: what the kernel refuses is refused with advice, what it can do works.

use crate::holds;

#[test]
fn without_the_module_tightening_is_refused_and_relaxing_works() {
    holds("plain", "without-module");
}

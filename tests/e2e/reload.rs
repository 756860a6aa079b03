// SPDX-License-Identifier: GPL-2.0-only
//! Loading and unloading the module while the machine works.

use crate::holds;

#[test]
fn the_module_comes_and_goes_under_load() {
    holds("reload", "reload");
}

#[test]
fn the_module_comes_and_goes_while_others_switch() {
    holds("reload", "reload-while-switching");
}

#[test]
fn a_module_for_another_kernel_is_refused() {
    holds("reload", "other-kernel");
}

#[test]
fn the_module_says_that_its_kernel_was_audited() {
    holds("reload", "unaudited-kernel");
}

#[test]
fn a_tightened_group_stays_so_when_the_module_leaves() {
    holds("reload", "unload-keeps-types");
}

// SPDX-License-Identifier: GPL-2.0-only
//! On a kernel with checks (lockdep, KASAN, debug objects, sleep in atomic sections, kmemleak) and hold points in the
//! unmap path. Its log must stay clean, as everywhere. Long: only in `make test-full`.

use iommuctl_tests::host::machine::KINDS;

use crate::holds;

#[test]
#[ignore = "needs the debug kernel, and time"]
fn a_tighten_waits_for_every_straggler() {
    holds("stragglers", "stragglers");
}

#[test]
#[ignore = "needs the debug kernel, and time"]
fn each_wait_waits_for_its_straggler() {
    holds("stragglers", "across-each-wait");
}

#[test]
#[ignore = "needs the debug kernel, and time"]
fn a_starved_straggler_is_waited_for() {
    holds("stragglers", "starved");
}

#[test]
#[ignore = "needs the debug kernel, and time"]
fn the_final_flush_leaves_nothing_reachable() {
    holds("stragglers", "final-flush");
}

/// The suites of the stock kernel that switch, load and unload, and a look for what they left in memory.
#[test]
#[ignore = "needs the debug kernel, and time"]
fn the_suites_of_the_stock_kernel_report_nothing() {
    let kind = KINDS.iter().find(|kind| kind.name == "checks");
    for scenario in kind.into_iter().flat_map(|kind| kind.scenarios) {
        holds("checks", scenario);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! A real Debian system, booted from a disk. Long: only in `make test-full`.

use iommuctl_tests::host::systems::system;

#[test]
#[ignore = "boots a whole system six times"]
fn the_policy_counts_at_boot_and_on_hotplug_and_stops_nothing() {
    let failures = system::run(&[], |_| {}).unwrap();
    assert!(failures.is_none(), "{}", failures.unwrap_or_default());
}

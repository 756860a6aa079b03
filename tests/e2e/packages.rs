// SPDX-License-Identifier: GPL-2.0-only
//! Our packages in a real Debian system. Long: only in `make test-full`.

use iommuctl_tests::host::build::cache;
use iommuctl_tests::host::packages::{deb, package_lifecycle};

#[test]
#[ignore = "boots a whole system six times, and builds in it"]
fn the_packages_come_are_upgraded_and_go() {
    let failures = package_lifecycle::run(|_| {}).unwrap();
    assert!(failures.is_none(), "{}", failures.unwrap_or_default());
}

#[test]
#[ignore = "builds everything twice"]
fn the_packages_are_the_same_bytes_wherever_they_are_built() {
    let cache = cache::Cache::open().unwrap();
    let _lock = cache.lock().unwrap();
    deb::reproduce(&cache).unwrap();
}

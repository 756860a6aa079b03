// SPDX-License-Identifier: GPL-2.0-only
//! Two real Debian systems that Ansible looks after. Long: only in `make test-full`.

use iommuctl_tests::host::systems::fleet;

#[test]
#[ignore = "boots two whole systems and runs eleven playbooks"]
fn ansible_says_what_it_would_do_does_it_once_and_nothing_by_halves() {
    let failure = fleet::run().unwrap();
    assert!(failure.is_none(), "{}", failure.unwrap_or_default());
}

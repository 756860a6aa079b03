// SPDX-License-Identifier: GPL-2.0-only
//! The module with one step left out, or done wrongly: each time the suites notice. Long: only in `make test-full`.

use iommuctl_tests::host::mutants::MUTANTS;

use crate::all_hold;

/// What is to notice them says nothing of the module as it is.
#[test]
fn the_module_as_it_is_shows_nothing() {
    all_hold(&["mutants"]);
}

#[test]
#[ignore = "builds the module ten times, and boots as often"]
fn each_mutant_is_noticed() {
    let failures: Vec<_> = MUTANTS
        .iter()
        .filter_map(|mutant| match mutant.survives() {
            Ok(failure) => failure,
            Err(error) => Some(format!("mutant `{}`: {error:#}", mutant.name)),
        })
        .collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

// SPDX-License-Identifier: GPL-2.0-only
//! Claims, from made-up figures.

use super::*;

fn verdict(add: impl Fn(&mut Samples), claim: &str) -> Vec<Verdict> {
    let mut samples = Samples::default();
    add(&mut samples);
    let judged = judge(&samples).into_iter();
    judged
        .filter(|judged| judged.top == claim)
        .map(|judged| judged.verdict)
        .collect()
}

#[test]
fn what_is_not_measured_is_not_good() {
    for judged in judge(&Samples::default()) {
        assert_eq!(judged.verdict, Verdict::NotMeasured, "{}", judged.says);
    }
    let half = |samples: &mut Samples| samples.add("set-mode", "64", [5; 9]);
    assert_eq!(verdict(half, "set-mode:64"), [Verdict::NotMeasured]);
}

#[test]
fn an_interval_on_one_side_is_an_answer() {
    let together = |factor: u64, spread: u64| {
        verdict(
            |samples| {
                samples.add("set-mode", "1", (0..9).map(|n| 1000 + n * spread));
                samples.add(
                    "set-mode",
                    "64",
                    (0..9).map(|n| factor * (1000 + n * spread)),
                );
            },
            "set-mode:64",
        )
    };
    assert_eq!(together(1, 5), [Verdict::Holds]);
    assert_eq!(together(3, 5), [Verdict::Fails]);
    assert_eq!(together(2, 300), [Verdict::CannotTell]);
}

#[test]
fn too_few_rounds_are_no_answer() {
    let few = |samples: &mut Samples| {
        samples.add("set-mode", "1", [1000; ROUNDS - 1]);
        samples.add("set-mode", "64", [1000; ROUNDS - 1]);
    };
    assert_eq!(verdict(few, "set-mode:64"), [Verdict::CannotTell]);
}

#[test]
fn one_failed_io_is_one_too_many() {
    let with = |values: [u64; 3]| {
        verdict(
            move |samples| samples.add("failed-count", "live-tighten", values),
            "failed-count:live-tighten",
        )
    };
    assert_eq!(with([0, 0, 0]), [Verdict::Holds]);
    assert_eq!(with([0, 1, 0]), [Verdict::Fails]);
}

#[test]
fn the_same_is_the_same_within_the_spread() {
    let loaded = |percent: u64, spread: u64| {
        verdict(
            |samples| {
                samples.add("map", "absent-lazy", (0..20).map(|n| 10_000 + n * spread));
                samples.add(
                    "map",
                    "loaded-lazy",
                    (0..20).map(|n| 100 * percent + n * spread),
                );
            },
            "map:loaded-lazy",
        )
    };
    assert_eq!(loaded(100, 5), [Verdict::Holds]);
    assert_eq!(loaded(110, 5), [Verdict::Fails]);
    assert_eq!(loaded(90, 5), [Verdict::Fails]);
    assert_eq!(loaded(100, 700), [Verdict::CannotTell]);
}

#[test]
fn nothing_can_be_held_against_nothing() {
    let zero = |samples: &mut Samples| {
        samples.add("gap", "none", [0; 9]);
        samples.add("gap", "live-tighten", [7; 9]);
    };
    assert_eq!(
        verdict(zero, "gap:live-tighten"),
        [Verdict::NotMeasured, Verdict::CannotTell]
    );
}

#[test]
fn what_is_there_anyway_is_not_blamed_on_a_switch() {
    let gaps = |live: u64, none: u64| {
        let mut samples = Samples::default();
        samples.add("gap", "live-tighten", [live; 9]);
        samples.add("gap", "none", [none; 9]);
        samples.add("gap", "rebind", [1000; 9]);
        judge(&samples).remove(0).verdict
    };
    assert_eq!(gaps(9, 9), Verdict::Holds);
    assert_eq!(gaps(40, 5), Verdict::Fails);
    assert_eq!(gaps(40, 40), Verdict::CannotTell);
}

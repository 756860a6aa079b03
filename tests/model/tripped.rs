// SPDX-License-Identifier: GPL-2.0-only
//! What the protocol does when an invariant is seen broken, which happens in no model: without one.

use crate::mutation::{Line, Names, ARMED, CLEARED};
use crate::protocol::{
    go_on, relax, settle, tighten, Label, Machine as _, Next, Queueing, Seen, Step, Timer, World,
};

/// Everything that can be seen.
fn everything() -> impl Iterator<Item = Seen> {
    let queueing = [Queueing::On, Queueing::Off, Queueing::Other];
    let timers = [Timer::AsFound, Timer::ShutDown, Timer::Other];
    let labels = [Label::Strict, Label::Lazy, Label::Other];
    (0..108).map(move |number: usize| Seen {
        domain_is_ours: number / 54 == 1,
        rings_are_ours: number / 27 % 2 == 1,
        queueing: queueing[number / 9 % 3],
        timer: timers[number / 3 % 3],
        label: labels[number % 3],
    })
}

#[test]
fn what_nobody_is_known_to_do_is_broken() {
    let relabelled = Seen {
        label: Label::Lazy,
        ..ARMED
    };
    for step in [Step::Armed, Step::Cleared, Step::Restored, Step::Tripped] {
        for seen in everything() {
            let requeued =
                seen.queueing == Queueing::On && !seen.rings_are_ours && seen.label == Label::Lazy;
            let world = match step {
                _ if !seen.domain_is_ours => World::Gone,
                Step::Armed if seen == ARMED => World::AsLeft,
                Step::Armed if seen == relabelled => World::Relabelled,
                Step::Cleared if seen == CLEARED => World::AsLeft,
                Step::Cleared if requeued => World::Requeued,
                _ => World::Broken,
            };
            assert_eq!(seen.world(step), world, "{step:?}, {seen:?}");
        }
    }
}

/// Names of the steps of one call, on a domain that looks as this line needs it, but for what says no.
fn steps(line: Line, refuses: &'static str, call: impl FnOnce(&mut Names)) -> Vec<&'static str> {
    let mut names = Names::of(line);
    names.refuses = refuses;
    call(&mut names);
    assert_eq!(names.position().0, Step::Tripped);
    names.names.take()
}

#[test]
fn a_ring_that_was_not_as_it_was_left_is_armed_again() {
    let armed_again = [
        "allow_timer",
        "flush_and_drain",
        "arm_empty_rings",
        "stop_timer",
        "set_step",
        "trip",
    ];
    let relaxed = steps(Line::RelaxArmed, "disarm_rings", relax);
    assert_eq!(relaxed[..2], ["allow_timer", "disarm_rings"]);
    assert_eq!(relaxed[2..], armed_again);
    let cleaned = steps(Line::GoOnArmed, "disarm_rings", |names| {
        assert_eq!(go_on(names, 0), Next::Stay);
    });
    let before = ["ring_locks_are_free", "shut_down_timer", "disarm_rings"];
    assert_eq!(cleaned[..3], before);
    assert_eq!(cleaned[3..], armed_again);
}

/// With the entry in place and `fq_domain` set before.
#[test]
fn what_is_queued_behind_the_second_grace_period_is_flushed() {
    let cleaned = steps(Line::GoOnCleared, "rings_are_empty", |names| {
        assert_eq!(go_on(names, 0), Next::Stay);
    });
    let flushed = [
        "rings_are_empty",
        "resume_queueing",
        "allow_timer",
        "flush_and_drain",
        "arm_empty_rings",
        "stop_timer",
        "set_step",
        "trip",
    ];
    assert_eq!(cleaned, flushed);
}

#[test]
fn what_keeps_rings_from_being_armed_is_not_tried_for_ever() {
    let relaxed = steps(Line::RelaxArmed, "disarm_rings, arm_empty_rings", |names| {
        relax(names);
    });
    let passes = relaxed.iter().filter(|step| **step == "flush_and_drain");
    assert_eq!(passes.count(), 10_000);
    // The timer does what it always does.
    assert!(!relaxed.contains(&"stop_timer"));
}

/// Nobody is told that a domain is strict whose rings cannot be armed.
#[test]
fn a_tighten_that_cannot_arm_its_rings_fails() {
    let tightened = steps(Line::Tighten, "arm_empty_rings", |names| {
        assert!(!tighten(names));
    });
    assert_eq!(tightened.last(), Some(&"trip"));
    assert!(!tightened.contains(&"set_label") && !tightened.contains(&"stop_timer"));
}

/// A domain that has tripped is touched by nothing.
#[test]
fn tripped_is_for_ever() {
    let mut names = Names::of(Line::GoOnArmed);
    names.set_step(Step::Tripped);
    names.names.take();
    assert!(!settle(&mut names));
    relax(&mut names);
    assert_eq!(go_on(&mut names, 0), Next::Stay);
    assert_eq!(go_on(&mut names, 1), Next::Stay);
    assert_eq!(*names.names.borrow(), Vec::<&str>::new());
}

/// Whose lock is held or slept for is not cleaned up: nothing but the lock is looked at.
#[test]
fn who_sleeps_for_a_ring_is_waited_for() {
    let mut names = Names::of(Line::GoOnArmed);
    names.refuses = "ring_locks_are_free";
    assert_eq!(go_on(&mut names, 0), Next::Soon);
    assert_eq!(*names.names.borrow(), ["ring_locks_are_free"]);
    assert_eq!(names.position().0, Step::Armed);
}

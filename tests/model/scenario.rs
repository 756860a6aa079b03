// SPDX-License-Identifier: GPL-2.0-only
//! What happens at the same time. Each function is one run; loom runs it in every order it can happen in.
//!
//! An unmap may be held up before its sample is used, before its change of the page table, before the lock of its ring,
//! and behind it: each of these is an access where anything else may come first.

use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

use crate::domain::{Domain, Kind, GENERIC, IN_BLOCKS, KEPT, PREEMPT_RT};
use crate::exit::Module;
use crate::mutation::{Line, Mutated, Mutation};
use crate::protocol::{leave, Label};

/// A scenario, with what it is about.
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(Mutation),
    /// How often a task may be interrupted in one run where it could go on, in the short form.
    pub depth: usize,
    /// What the protocol does here.
    pub lines: &'static [Line],
}

const fn scenario(
    name: &'static str,
    run: fn(Mutation),
    depth: usize,
    lines: &'static [Line],
) -> Scenario {
    Scenario {
        name,
        run,
        depth,
        lines,
    }
}

const TIGHTEN: &[Line] = &[Line::Tighten, Line::GoOnArmed, Line::GoOnCleared];
const RELAX: &[Line] = &[
    Line::Tighten,
    Line::RelaxArmed,
    Line::RelaxCleared,
    Line::GoOnArmed,
    Line::GoOnCleared,
];
/// Before the rings are freed.
const RELAX_CLEARED: &[Line] = &[Line::Tighten, Line::RelaxCleared, Line::GoOnArmed];
const GONE: &[Line] = &[
    Line::Tighten,
    Line::SettleGoneArmed,
    Line::SettleGoneCleared,
    Line::GoOnArmed,
    Line::GoOnCleared,
];
const RELAX_OR_GONE: &[Line] = &[
    Line::Tighten,
    Line::RelaxArmed,
    Line::RelaxCleared,
    Line::SettleGoneArmed,
    Line::SettleGoneCleared,
    Line::GoOnArmed,
    Line::GoOnCleared,
];
const FOREIGN: &[Line] = &[
    Line::Tighten,
    Line::RelaxArmed,
    Line::SettleRequeued,
    Line::GoOnArmed,
    Line::GoOnCleared,
];
const REQUEUED: &[Line] = &[
    Line::Tighten,
    Line::SettleRequeued,
    Line::GoOnArmed,
    Line::GoOnCleared,
];
const LEAVE: &[Line] = &[Line::Leave];

impl Scenario {
    /// Whether the protocol takes this line in it.
    pub fn takes(&self, line: Line) -> bool {
        self.lines.contains(&line)
    }
}

/// Those of a domain. The first that catches a mutant is in the table.
pub const DOMAIN: [Scenario; 23] = [
    scenario("one late comer", one_late_comer, 3, TIGHTEN),
    scenario(
        "unmaps that come after one another",
        one_after_another,
        3,
        TIGHTEN,
    ),
    scenario("late comers on one ring", on_one_ring, 2, TIGHTEN),
    scenario("late comers on each ring", on_each_ring, 2, TIGHTEN),
    scenario("a late comer and the timer", with_the_timer, 2, TIGHTEN),
    scenario(
        "an entry that is found once and called twice",
        in_blocks,
        2,
        TIGHTEN,
    ),
    scenario("a writer who relaxes", relaxed, 3, RELAX),
    scenario(
        "relaxed when cleared",
        relaxed_when_cleared,
        3,
        RELAX_CLEARED,
    ),
    scenario(
        "relaxed when cleared, and the timer",
        relaxed_and_timer,
        2,
        RELAX_CLEARED,
    ),
    scenario("tightened again during one wait", tightened_again, 2, RELAX),
    scenario("the last device leaves", last_device_leaves, 3, GONE),
    scenario("another domain at the same address", replaced, 3, GONE),
    scenario("a device joins", device_joins, 2, TIGHTEN),
    scenario(
        "a writer in the kernel's own store",
        foreign_writer,
        3,
        FOREIGN,
    ),
    scenario(
        "the kernel's own rings, and tightened again",
        requeued,
        3,
        REQUEUED,
    ),
    scenario("two writers", two_writers, 2, TIGHTEN),
    scenario("an unmap of no bytes", unmap_of_nothing, 3, TIGHTEN),
    scenario(
        "a writer who relaxes, and the timer",
        relaxed_beside_timer,
        2,
        RELAX,
    ),
    scenario(
        "a writer who relaxes while the last device leaves",
        relaxed_and_gone,
        2,
        RELAX_OR_GONE,
    ),
    scenario(
        "three late comers on one ring",
        three_on_one_ring,
        1,
        TIGHTEN,
    ),
    scenario(
        "PREEMPT_RT, a writer who relaxes",
        relaxed_where_locks_sleep,
        2,
        RELAX,
    ),
    scenario("PREEMPT_RT, one ring", asleep_at_the_ring, 2, TIGHTEN),
    scenario("PREEMPT_RT, the timer", asleep_for_the_timer, 2, TIGHTEN),
];

/// Those of the exit.
pub const EXIT: [Scenario; 2] = [
    scenario(
        "a writer while the module leaves",
        module_leaves_one,
        3,
        LEAVE,
    ),
    scenario(
        "two writers while the module leaves",
        module_leaves_two,
        2,
        LEAVE,
    ),
];

fn domain(kind: Kind, readers: usize, mutation: Mutation) -> Arc<Domain> {
    Arc::new(Domain::lazy(kind, readers, mutation))
}

fn spawn(domain: &Arc<Domain>, task: impl FnOnce(&Domain) + 'static) -> JoinHandle<()> {
    let domain = Arc::clone(domain);
    thread::spawn(move || task(&domain))
}

fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        task.join().unwrap();
    }
}

/// A write of `DMA`, and the clean-up, one after the other.
fn tighten(domain: &Domain) {
    if domain.write_dma() {
        domain.clean_up();
    }
}

/// A write of `DMA`, and the clean-up beside what follows.
fn begin(domain: &Arc<Domain>) -> Option<JoinHandle<()>> {
    domain.write_dma().then(|| spawn(domain, Domain::clean_up))
}

fn one_late_comer(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    let unmapper = spawn(&domain, |d| d.unmap(0, 1, 0));
    tighten(&domain);
    join([unmapper]);
    domain.ends(1, Label::Strict);
}

fn one_after_another(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    let unmapper = spawn(&domain, |d| {
        d.unmap(0, 0, 0);
        d.unmap(0, 0, 1);
    });
    tighten(&domain);
    join([unmapper]);
    domain.ends(2, Label::Strict);
}

fn with_two(kind: Kind, cpus: [usize; 2], mutation: Mutation) {
    let domain = domain(kind, 2, mutation);
    let unmappers = [0, 1].map(|task| spawn(&domain, move |d| d.unmap(task, cpus[task], task)));
    tighten(&domain);
    join(unmappers);
    domain.ends(2, Label::Strict);
}

fn on_one_ring(mutation: Mutation) {
    with_two(GENERIC, [0, 0], mutation);
}

fn on_each_ring(mutation: Mutation) {
    with_two(GENERIC, [0, 1], mutation);
}

fn in_blocks(mutation: Mutation) {
    with_two(IN_BLOCKS, [0, 0], mutation);
}

fn asleep_at_the_ring(mutation: Mutation) {
    with_two(PREEMPT_RT, [0, 0], mutation);
}

fn beside_the_timer(kind: Kind, mutation: Mutation) {
    let domain = domain(kind, 1, mutation);
    let timers = spawn(&domain, Domain::timers);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    tighten(&domain);
    join([unmapper]);
    domain.stop_timers();
    join([timers]);
    domain.ends(1, Label::Strict);
}

fn with_the_timer(mutation: Mutation) {
    beside_the_timer(GENERIC, mutation);
}

fn asleep_for_the_timer(mutation: Mutation) {
    beside_the_timer(PREEMPT_RT, mutation);
}

fn three_on_one_ring(mutation: Mutation) {
    let domain = domain(GENERIC, 3, mutation);
    let unmappers = [0, 1, 2].map(|task| spawn(&domain, move |d| d.unmap(task, 0, task)));
    tighten(&domain);
    join(unmappers);
    domain.ends(3, Label::Strict);
}

/// In whatever step the clean-up is by then.
fn relaxed_of(kind: Kind, mutation: Mutation) {
    let domain = domain(kind, 1, mutation);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    let cleaner = begin(&domain);
    domain.write_lazy();
    join(cleaner);
    join([unmapper]);
    domain.ends(1, Label::Lazy);
}

fn relaxed(mutation: Mutation) {
    relaxed_of(GENERIC, mutation);
}

fn relaxed_where_locks_sleep(mutation: Mutation) {
    relaxed_of(PREEMPT_RT, mutation);
}

fn relaxed_beside_timer(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    let timers = spawn(&domain, Domain::timers);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    let cleaner = begin(&domain);
    domain.write_lazy();
    join(cleaner);
    join([unmapper]);
    domain.stop_timers();
    join([timers]);
    domain.ends(1, Label::Lazy);
}

fn relaxed_and_gone(mutation: Mutation) {
    let domain = domain(KEPT, 1, mutation);
    let device = spawn(&domain, |d| {
        d.unmap(0, 0, 0);
        d.device_leaves();
    });
    let cleaner = begin(&domain);
    domain.write_lazy();
    join(cleaner);
    join([device]);
    domain.ends(1, Label::Lazy);
}

fn relaxed_when_cleared(mutation: Mutation) {
    let domain = domain(KEPT, 1, mutation);
    let unmapper = spawn(&domain, |d| {
        d.unmap(0, 0, 0);
        d.unmap(0, 0, 1);
    });
    domain.write_dma();
    let waited = domain.clear();
    domain.write_lazy();
    domain.clean_up_from(waited);
    join([unmapper]);
    domain.ends(2, Label::Lazy);
}

/// An unmap of no bytes may still be on its way to the timer.
fn relaxed_and_timer(mutation: Mutation) {
    let domain = domain(KEPT, 1, mutation);
    let timers = spawn(&domain, Domain::timers);
    let unmapper = spawn(&domain, |d| d.unmap_nothing(0, 0));
    domain.write_dma();
    let waited = domain.clear();
    domain.write_lazy();
    domain.clean_up_from(waited);
    join([unmapper]);
    domain.stop_timers();
    join([timers]);
    domain.ends(0, Label::Lazy);
}

fn tightened_again(mutation: Mutation) {
    let domain = domain(KEPT, 1, mutation);
    let cleaner = begin(&domain);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    domain.write_lazy();
    let other = begin(&domain);
    join(cleaner);
    join(other);
    join([unmapper]);
    domain.ends(1, Label::Strict);
}

fn last_device_leaves(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    let device = spawn(&domain, |d| {
        d.unmap(0, 0, 0);
        d.device_leaves();
    });
    tighten(&domain);
    join([device]);
    domain.ends(1, Label::Strict);
}

fn replaced(mutation: Mutation) {
    let domain = domain(KEPT, 1, mutation);
    let cleaner = begin(&domain);
    let device = spawn(&domain, |d| {
        d.unmap(0, 0, 0);
        d.domain_changes();
        d.unmap(0, 0, 0);
    });
    // Of the first domain, or of the second.
    let other = begin(&domain);
    join(cleaner);
    join(other);
    join([device]);
    let label = domain.group.lock().unwrap().label;
    domain.ends(1, label);
}

fn device_joins(mutation: Mutation) {
    let domain = domain(GENERIC, 2, mutation);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    let joins = spawn(&domain, |d| {
        d.device_joins();
        d.unmap(1, 0, 1);
    });
    tighten(&domain);
    join([unmapper, joins]);
    domain.ends(2, Label::Strict);
}

/// Who was in there before the module came is in no turn of ours.
fn foreign_writer(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    let ours = domain.write_dma();
    let foreign = spawn(&domain, Domain::store_lazy);
    if ours {
        domain.clean_up();
    }
    join([unmapper, foreign]);
    domain.ends(1, Label::Lazy);
}

fn requeued(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    domain.write_dma();
    let waited = domain.clear();
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    domain.store_lazy();
    domain.write_dma();
    domain.clean_up_from(waited);
    join([unmapper]);
    domain.ends(1, Label::Strict);
}

fn two_writers(mutation: Mutation) {
    let domain = domain(GENERIC, 1, mutation);
    let unmapper = spawn(&domain, |d| d.unmap(0, 0, 0));
    let other = spawn(&domain, tighten);
    tighten(&domain);
    join([unmapper, other]);
    domain.ends(1, Label::Strict);
}

fn unmap_of_nothing(mutation: Mutation) {
    let domain = domain(KEPT, 1, mutation);
    let unmapper = spawn(&domain, |d| {
        d.unmap_nothing(0, 0);
        d.unmap(0, 0, 0);
    });
    tighten(&domain);
    join([unmapper]);
    domain.ends(1, Label::Strict);
}

fn module_leaves_one(mutation: Mutation) {
    module_leaves(1, mutation);
}

fn module_leaves_two(mutation: Mutation) {
    module_leaves(2, mutation);
}

fn module_leaves(count: usize, mutation: Mutation) {
    let module = Arc::new(Module::loaded(count));
    let writer = |task| {
        let module = Arc::clone(&module);
        thread::spawn(move || Module::write(&module, task))
    };
    let writers: Vec<_> = (0..count).map(writer).collect();
    module.unload();
    leave(&mut Mutated::exit(&*module, mutation));
    module.free_text();
    join(writers);
    module.ends();
}

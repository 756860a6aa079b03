// SPDX-License-Identifier: GPL-2.0-only
//! What happens at the same time. Each function is one run; loom runs it in every order it can happen in.

use loom::sync::Arc;
use loom::thread::{self, JoinHandle};

use crate::domain::{Domain, Leftover, Switch};
use crate::exit::Module;
use crate::mutation::{Mutated, Mutation, FINISH};
use crate::protocol::{finish, leave, tighten};

/// A scenario, with what it is about.
pub struct Scenario {
    pub name: &'static str,
    pub run: fn(Mutation),
    /// How many tasks it has: with more than four it cannot be explored as deeply as the others.
    pub tasks: usize,
}

/// Those of the tighten.
pub const TIGHTEN: [Scenario; 9] = [
    Scenario {
        name: "one unmap and the timer",
        run: one_unmap,
        tasks: 3,
    },
    Scenario {
        name: "a ring that fills up",
        run: full_ring,
        tasks: 3,
    },
    Scenario {
        name: "unmaps that come after one another",
        run: two_in_a_row,
        tasks: 2,
    },
    Scenario {
        name: "relaxed again at once",
        run: relaxed_again,
        tasks: 3,
    },
    Scenario {
        name: "two writers",
        run: two_writers,
        tasks: 3,
    },
    Scenario {
        name: "the last device goes",
        run: torn_down,
        tasks: 2,
    },
    Scenario {
        name: "PREEMPT_RT, two unmaps and the timer",
        run: sleeps_for_the_timer,
        tasks: 3,
    },
    Scenario {
        name: "PREEMPT_RT, two unmaps and one ring",
        run: sleeps_for_another,
        tasks: 3,
    },
    Scenario {
        name: "an entry that is found once and called twice",
        run: in_blocks,
        tasks: 3,
    },
];

/// That of those who switch for writers.
pub const SERVE: [Scenario; 1] = [Scenario {
    name: "writers while the last device leaves",
    run: device_leaves,
    tasks: 5,
}];

/// Those of the exit.
pub const EXIT: [Scenario; 2] = [
    Scenario {
        name: "a writer while the module leaves",
        run: module_leaves_one,
        tasks: 3,
    },
    Scenario {
        name: "two writers while the module leaves",
        run: module_leaves_two,
        tasks: 5,
    },
];

fn spawn(domain: &Arc<Domain>, task: impl FnOnce(&Domain) + 'static) -> JoinHandle<()> {
    let domain = Arc::clone(domain);
    thread::spawn(move || task(&domain))
}

fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        task.join().unwrap();
    }
}

/// What a switch leaves to be finished.
type Tail<'a> = Mutated<Leftover<'a>>;

/// A tighten, up to where the group's mutex is free again.
fn switch<'a>(domain: &'a Domain, label: &mut bool, mutation: Mutation) -> Tail<'a> {
    let mut machine = Mutated::new(Switch::prepare(domain, label), mutation);
    tighten(&mut machine);
    Mutated::from(machine.into_machine().leave(), mutation, FINISH)
}

/// A write of `DMA`, up to there. What is left of it, if it was this one that tightened.
fn begin_dma(domain: &Domain, mutation: Mutation) -> Option<Tail<'_>> {
    let mut label = domain.group.lock().unwrap();
    (!*label).then(|| switch(domain, &mut label, mutation))
}

/// A write of `DMA` to its end.
fn write_dma(domain: &Domain, mutation: Mutation) {
    if let Some(mut tail) = begin_dma(domain, mutation) {
        finish(&mut tail);
    }
}

fn one_unmap(mutation: Mutation) {
    with_the_timer(Domain::lazy(1), 1, mutation);
}

fn sleeps_for_the_timer(mutation: Mutation) {
    with_the_timer(Domain::lazy_and_preemptible(1), 2, mutation);
}

fn with_the_timer(domain: Domain, pages: usize, mutation: Mutation) {
    let domain = Arc::new(domain);
    let timers = spawn(&domain, Domain::timers);
    let unmapper = spawn(&domain, move |d| {
        (0..pages).for_each(|page| d.unmap(0, page))
    });
    write_dma(&domain, mutation);
    join([unmapper]);
    domain.stop_timers();
    join([timers]);
    domain.clean_and_strict(pages);
}

fn full_ring(mutation: Mutation) {
    with_two(Domain::lazy(2), mutation);
}

fn sleeps_for_another(mutation: Mutation) {
    with_two(Domain::lazy_and_preemptible(2), mutation);
}

fn with_two(domain: Domain, mutation: Mutation) {
    let domain = Arc::new(domain);
    let unmappers = [0, 1].map(|task| spawn(&domain, move |d| d.unmap(task, task)));
    write_dma(&domain, mutation);
    join(unmappers);
    domain.clean_and_strict(2);
}

fn in_blocks(mutation: Mutation) {
    with_two(Domain::lazy_in_blocks(2), mutation);
}

fn two_in_a_row(mutation: Mutation) {
    let domain = Arc::new(Domain::lazy(1));
    let unmapper = spawn(&domain, |d| {
        d.unmap(0, 0);
        d.unmap(0, 1);
    });
    write_dma(&domain, mutation);
    join([unmapper]);
    domain.clean_and_strict(2);
}

fn relaxed_again(mutation: Mutation) {
    let domain = Arc::new(Domain::lazy(1));
    let unmapper = spawn(&domain, |d| {
        d.unmap(0, 0);
        d.unmap(0, 1);
    });
    let first = begin_dma(&domain, mutation).map(Mutated::into_machine);
    // What is left of the first goes on beside all that follows.
    let tail = first.map(|left| {
        let copy = left.copy();
        spawn(&domain, move |d| {
            finish(&mut Mutated::from(Leftover::of(d, copy), mutation, FINISH));
        })
    });
    {
        let mut label = domain.group.lock().unwrap();
        domain.relax();
        *label = false;
    }
    write_dma(&domain, mutation);
    join(tail);
    join([unmapper]);
    domain.clean_and_strict(2);
}

fn two_writers(mutation: Mutation) {
    let domain = Arc::new(Domain::lazy(1));
    let unmapper = spawn(&domain, |d| d.unmap(0, 0));
    let other = spawn(&domain, move |d| {
        write_dma(d, mutation);
    });
    write_dma(&domain, mutation);
    join([unmapper, other]);
    domain.clean_and_strict(1);
}

/// The kernel unbinds the driver first, so that nothing unmaps any more when the domain goes.
fn torn_down(mutation: Mutation) {
    let domain = Arc::new(Domain::lazy(1));
    let device = spawn(&domain, |d| {
        d.unmap(0, 0);
        let _group = d.group.lock().unwrap();
        d.tear_down();
    });
    let tail = {
        let mut label = domain.group.lock().unwrap();
        let ours = domain.ghost.has_domain() && !*label;
        ours.then(|| switch(&domain, &mut label, mutation))
    };
    // The domain may go before this.
    if let Some(mut tail) = tail {
        finish(&mut tail);
    }
    join([device]);
}

fn writers(module: &Arc<Module>) -> Vec<JoinHandle<()>> {
    let writer = |task| {
        let module = Arc::clone(module);
        thread::spawn(move || Module::write(&module, task))
    };
    (0..module.readers.len()).map(writer).collect()
}

fn device_leaves(mutation: Mutation) {
    let module = Arc::new(Module::loaded(2, mutation));
    join(writers(&module));
    module.served();
}

fn module_leaves_one(mutation: Mutation) {
    module_leaves(1, mutation);
}

fn module_leaves_two(mutation: Mutation) {
    module_leaves(2, mutation);
}

fn module_leaves(count: usize, mutation: Mutation) {
    let module = Arc::new(Module::loaded(count, Mutation::None));
    let writers = writers(&module);
    leave(&mut Mutated::new(&*module, mutation));
    module.ghost.free_text();
    join(writers);
    module.join_workers();
}

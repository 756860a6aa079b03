// SPDX-License-Identifier: GPL-2.0-only
//! Protocols that are wrong in one place: the shipped one with a step left out, or with two neighbours swapped.
//!
//! The protocols are straight lines of calls, so what stands between the protocol and the model can make every such
//! mutant, without a second copy of the source.

use std::fmt;
use std::str::FromStr;

use crate::protocol::{Exit, Machine, Remnant, Service};

/// The steps of a tighten, in the shipped order, and of what follows it.
pub const TIGHTEN: [&str; 13] = [
    "publish_strict_entry",
    "wait_for_readers",
    "wait_for_ring_locks",
    "shut_down_timer",
    "flush_and_drain",
    "strict_from_here",
    "stop_queueing",
    "wait_for_readers",
    "restore_entry",
    "free_rings",
    "label_strict",
    "wait_for_readers",
    "free_strict_entry",
];

/// Where what follows a tighten begins. The steps beside it are not neighbours in one function.
pub const FINISH: usize = 11;

/// The steps of who switches for a writer.
pub const SERVE: [&str; 5] = ["switch", "answer", "end_turn", "put_group", "finish"];

/// The steps of the module's exit.
pub const EXIT: [&str; 7] = [
    "stop_switching",
    "wait_for_switches",
    "wait_for_workers",
    "restore_store",
    "wait_for_readers",
    "wait_for_writers",
    "wait_for_readers",
];

/// What is wrong; steps are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing.
    None,
    /// This step is left out.
    Drop(usize),
    /// This step comes after the next one.
    Swap(usize),
}

impl Mutation {
    /// Every mutation of a protocol of so many steps.
    pub fn all(steps: usize) -> impl Iterator<Item = Self> {
        let drops = (0..steps).map(Self::Drop);
        drops.chain((1..steps).map(|step| Self::Swap(step - 1)))
    }

    /// For people.
    pub fn describe(self, steps: &[&str]) -> String {
        match self {
            Self::None => "as shipped".to_owned(),
            Self::Drop(at) => format!("without step {}, {}", at + 1, steps[at]),
            Self::Swap(at) => format!(
                "step {}, {}, before step {}, {}",
                at + 2,
                steps[at + 1],
                at + 1,
                steps[at]
            ),
        }
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => f.write_str("none"),
            Self::Drop(at) => write!(f, "drop {at}"),
            Self::Swap(at) => write!(f, "swap {at}"),
        }
    }
}

impl FromStr for Mutation {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.split_once(' ') {
            Some(("drop", at)) => Self::Drop(at.parse()?),
            Some((_, at)) => Self::Swap(at.parse()?),
            None => Self::None,
        })
    }
}

/// One step of a protocol on a machine.
type Step<M> = fn(&mut M);

/// A machine on which one mutation happens.
pub struct Mutated<M> {
    machine: M,
    mutation: Mutation,
    steps: usize,
    put_off: Option<Step<M>>,
}

impl<M> Mutated<M> {
    pub fn new(machine: M, mutation: Mutation) -> Self {
        Self::from(machine, mutation, 0)
    }

    /// The machine's first step is number `first`.
    pub fn from(machine: M, mutation: Mutation, first: usize) -> Self {
        Self {
            machine,
            mutation,
            steps: first,
            put_off: None,
        }
    }

    pub fn into_machine(self) -> M {
        self.machine
    }

    fn step(&mut self, step: Step<M>) {
        let at = self.steps;
        self.steps += 1;
        match self.mutation {
            Mutation::Drop(dropped) if at == dropped => {}
            Mutation::Swap(first) if at == first => self.put_off = Some(step),
            _ => {
                step(&mut self.machine);
                if let Some(step) = self.put_off.take() {
                    step(&mut self.machine);
                }
            }
        }
    }
}

impl<M: Machine> Machine for Mutated<M> {
    fn publish_strict_entry(&mut self) {
        self.step(M::publish_strict_entry);
    }
    fn wait_for_readers(&mut self) {
        self.step(M::wait_for_readers);
    }
    fn wait_for_ring_locks(&mut self) {
        self.step(M::wait_for_ring_locks);
    }
    fn shut_down_timer(&mut self) {
        self.step(M::shut_down_timer);
    }
    fn flush_and_drain(&mut self) -> u64 {
        self.step(|m| {
            m.flush_and_drain();
        });
        // Nothing in the models looks at the number.
        0
    }
    fn strict_from_here(&mut self, drained: u64) {
        debug_assert_eq!(drained, 0);
        self.step(|m| m.strict_from_here(0));
    }
    fn stop_queueing(&mut self) {
        self.step(M::stop_queueing);
    }
    fn restore_entry(&mut self) {
        self.step(M::restore_entry);
    }
    fn free_rings(&mut self) {
        self.step(M::free_rings);
    }
    fn label_strict(&mut self) {
        self.step(M::label_strict);
    }
}

impl<R: Remnant> Remnant for Mutated<R> {
    fn wait_for_readers(&mut self) {
        self.step(R::wait_for_readers);
    }
    fn free_strict_entry(&mut self) {
        self.step(R::free_strict_entry);
    }
}

impl<S: Service> Service for Mutated<S> {
    fn switch(&mut self) {
        self.step(S::switch);
    }
    fn answer(&mut self) {
        self.step(S::answer);
    }
    fn end_turn(&mut self) {
        self.step(S::end_turn);
    }
    fn put_group(&mut self) {
        self.step(S::put_group);
    }
    fn finish(&mut self) {
        self.step(S::finish);
    }
}

impl<E: Exit> Exit for Mutated<E> {
    fn stop_switching(&mut self) {
        self.step(E::stop_switching);
    }
    fn wait_for_switches(&mut self) {
        self.step(E::wait_for_switches);
    }
    fn wait_for_workers(&mut self) {
        self.step(E::wait_for_workers);
    }
    fn restore_store(&mut self) {
        self.step(E::restore_store);
    }
    fn wait_for_readers(&mut self) {
        self.step(E::wait_for_readers);
    }
    fn wait_for_writers(&mut self) {
        self.step(E::wait_for_writers);
    }
}

/// A machine without a model: it writes down the names of the steps.
#[derive(Default)]
pub struct Names(pub Vec<&'static str>);

impl Machine for Names {
    fn publish_strict_entry(&mut self) {
        self.0.push("publish_strict_entry");
    }
    fn wait_for_readers(&mut self) {
        self.0.push("wait_for_readers");
    }
    fn wait_for_ring_locks(&mut self) {
        self.0.push("wait_for_ring_locks");
    }
    fn shut_down_timer(&mut self) {
        self.0.push("shut_down_timer");
    }
    fn flush_and_drain(&mut self) -> u64 {
        self.0.push("flush_and_drain");
        0
    }
    fn strict_from_here(&mut self, _drained: u64) {
        self.0.push("strict_from_here");
    }
    fn stop_queueing(&mut self) {
        self.0.push("stop_queueing");
    }
    fn restore_entry(&mut self) {
        self.0.push("restore_entry");
    }
    fn free_rings(&mut self) {
        self.0.push("free_rings");
    }
    fn label_strict(&mut self) {
        self.0.push("label_strict");
    }
}

impl Remnant for Names {
    fn wait_for_readers(&mut self) {
        self.0.push("wait_for_readers");
    }
    fn free_strict_entry(&mut self) {
        self.0.push("free_strict_entry");
    }
}

impl Service for Names {
    fn switch(&mut self) {
        self.0.push("switch");
    }
    fn answer(&mut self) {
        self.0.push("answer");
    }
    fn end_turn(&mut self) {
        self.0.push("end_turn");
    }
    fn put_group(&mut self) {
        self.0.push("put_group");
    }
    fn finish(&mut self) {
        self.0.push("finish");
    }
}

impl Exit for Names {
    fn stop_switching(&mut self) {
        self.0.push("stop_switching");
    }
    fn wait_for_switches(&mut self) {
        self.0.push("wait_for_switches");
    }
    fn wait_for_workers(&mut self) {
        self.0.push("wait_for_workers");
    }
    fn restore_store(&mut self) {
        self.0.push("restore_store");
    }
    fn wait_for_readers(&mut self) {
        self.0.push("wait_for_readers");
    }
    fn wait_for_writers(&mut self) {
        self.0.push("wait_for_writers");
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Protocols that are wrong in one place: the shipped one with a step left out, or with two neighbours swapped; and the
//! steps themselves, or who calls the protocol, with a mistake.
//!
//! Where the protocol is a straight line of calls, what stands between it and the model can make every mutant of the first
//! kind, without a second copy of the source.

use std::cell::{Cell, RefCell};
use std::collections::BTreeSet;
use std::fmt;
use std::sync::Mutex;

use crate::protocol::{Exit, Label, Machine, Queueing, Seen, Step, Timer, World};

/// A straight line of calls.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub enum Line {
    Tighten,
    RelaxArmed,
    RelaxCleared,
    SettleRequeued,
    SettleGoneArmed,
    SettleGoneCleared,
    GoOnArmed,
    GoOnCleared,
    Leave,
}

impl Line {
    pub const ALL: [Self; 9] = [
        Self::Tighten,
        Self::RelaxArmed,
        Self::RelaxCleared,
        Self::SettleRequeued,
        Self::SettleGoneArmed,
        Self::SettleGoneCleared,
        Self::GoOnArmed,
        Self::GoOnCleared,
        Self::Leave,
    ];

    /// For people.
    pub fn title(self) -> &'static str {
        match self {
            Self::Tighten => "tighten",
            Self::RelaxArmed => "relax, armed",
            Self::RelaxCleared => "relax, cleared",
            Self::SettleRequeued => "settle, requeued",
            Self::SettleGoneArmed => "settle, gone while armed",
            Self::SettleGoneCleared => "settle, gone when cleared",
            Self::GoOnArmed => "go_on, armed",
            Self::GoOnCleared => "go_on, cleared",
            Self::Leave => "leave",
        }
    }

    /// Its steps, in the shipped order.
    pub fn steps(self) -> &'static [&'static str] {
        match self {
            Self::Tighten => &[
                "publish_strict_entry",
                "flush_and_drain",
                "arm_empty_rings",
                "stop_timer",
                "set_label",
                "set_step",
            ],
            Self::RelaxArmed => &[
                "allow_timer",
                "disarm_rings",
                "restore_entry",
                "set_label",
                "set_step",
            ],
            Self::RelaxCleared => &[
                "resume_queueing",
                "allow_timer",
                "restore_entry",
                "set_label",
                "set_step",
            ],
            Self::SettleRequeued => &["restore_entry", "set_rings_aside", "set_step"],
            Self::SettleGoneArmed => &["set_step"],
            Self::SettleGoneCleared => &["free_rings", "set_step"],
            Self::GoOnArmed => &[
                "ring_locks_are_free",
                "shut_down_timer",
                "disarm_rings",
                "stop_queueing",
                "set_step",
            ],
            Self::GoOnCleared => &["rings_are_empty", "restore_entry", "free_rings", "set_step"],
            Self::Leave => &[
                "wait_for_cleaner",
                "restore_store",
                "wait_for_readers",
                "wait_for_writers",
                "wait_for_readers",
            ],
        }
    }
}

/// Mistakes in a step, or in who calls the protocol.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Fault {
    SkipOneCpu,
    ArmNonEmpty,
    ZeroTheList,
    FlushOnce,
    OtherMask,
    DisarmWithoutCollecting,
    CollectByDisarming,
    CollectWithoutLock,
    CollectEmpty,
    CollectTwice,
    CountNothing,
    NoCollectionAtUnbind,
    NoGeneration,
    CompareOnlyTheSlot,
    TimerStaysOn,
    NoFirstWait,
    NoSecondWait,
    NoThirdWait,
    WaitWithTheMutex,
    CollectBlindly,
    FreeInAnotherSection,
}

impl Fault {
    pub const ALL: [Self; 21] = [
        Self::SkipOneCpu,
        Self::ArmNonEmpty,
        Self::ZeroTheList,
        Self::FlushOnce,
        Self::OtherMask,
        Self::DisarmWithoutCollecting,
        Self::CollectByDisarming,
        Self::CollectWithoutLock,
        Self::CollectEmpty,
        Self::CollectTwice,
        Self::CountNothing,
        Self::NoCollectionAtUnbind,
        Self::NoGeneration,
        Self::CompareOnlyTheSlot,
        Self::TimerStaysOn,
        Self::NoFirstWait,
        Self::NoSecondWait,
        Self::NoThirdWait,
        Self::WaitWithTheMutex,
        Self::CollectBlindly,
        Self::FreeInAnotherSection,
    ];

    /// For people.
    fn title(self) -> &'static str {
        match self {
            Self::SkipOneCpu => "arm_empty_rings skips one CPU",
            Self::ArmNonEmpty => "arm_empty_rings arms a ring that is not empty",
            Self::ZeroTheList => "arm_empty_rings zeroes the slot's list",
            Self::FlushOnce => "no flush after a pass that found a ring not empty",
            Self::OtherMask => "disarm_rings puts another mask back",
            Self::DisarmWithoutCollecting => "disarm_rings gives nothing back",
            Self::CollectByDisarming => "collect disarms, drains and arms again",
            Self::CollectWithoutLock => "collect reads the slot without the lock",
            Self::CollectEmpty => "collect gives back the range of an empty slot",
            Self::CollectTwice => "collect leaves the range in the slot",
            Self::CountNothing => "ranges given up are not counted",
            Self::NoCollectionAtUnbind => "no collection when the driver was unbound",
            Self::NoGeneration => "the number in position() never changes",
            Self::CompareOnlyTheSlot => "look() looks at the entry only",
            Self::TimerStaysOn => "allow_timer leaves fq_timer_on as it is",
            Self::NoFirstWait => "no grace period before the rings are disarmed",
            Self::NoSecondWait => "no grace period before the rings are freed",
            Self::NoThirdWait => "no grace period before the copy is freed",
            Self::WaitWithTheMutex => "the mutex is held across the grace period",
            Self::CollectBlindly => "collect does not look whether the domain has gone",
            Self::FreeInAnotherSection => {
                "the copy is freed in another section of the mutex than the one that said so"
            }
        }
    }
}

/// What is wrong; steps are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mutation {
    /// Nothing.
    None,
    /// This step is left out.
    Drop(Line, usize),
    /// This step comes after the next one.
    Swap(Line, usize),
    Fault(Fault),
}

impl Mutation {
    /// Every one there is.
    pub fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for line in Line::ALL {
            let steps = line.steps().len();
            all.extend((0..steps).map(|at| Self::Drop(line, at)));
            all.extend((1..steps).map(|at| Self::Swap(line, at - 1)));
        }
        all.extend(Fault::ALL.map(Self::Fault));
        all
    }

    pub fn is(self, fault: Fault) -> bool {
        self == Self::Fault(fault)
    }

    /// The line that is not as shipped. A mistake in a step may be in all of them.
    pub fn line(self) -> Option<Line> {
        match self {
            Self::Drop(line, _) | Self::Swap(line, _) => Some(line),
            Self::None | Self::Fault(_) => None,
        }
    }

    /// Whether this is about the module's exit.
    pub fn leaves(self) -> bool {
        matches!(
            self,
            Self::Drop(Line::Leave, _) | Self::Swap(Line::Leave, _)
        )
    }
}

impl fmt::Display for Mutation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self::None => f.write_str("as shipped"),
            Self::Drop(line, at) => {
                let step = line.steps()[at];
                write!(f, "{}: without step {}, {step}", line.title(), at + 1)
            }
            Self::Swap(line, at) => {
                let (title, steps) = (line.title(), line.steps());
                let (first, second) = (steps[at], steps[at + 1]);
                let numbers = (at + 2, at + 1);
                write!(
                    f,
                    "{title}: step {}, {second}, before step {}, {first}",
                    numbers.0, numbers.1
                )
            }
            Self::Fault(fault) => f.write_str(fault.title()),
        }
    }
}

/// One step of a protocol on a machine.
enum Action<M> {
    Do(fn(&mut M)),
    Ask(fn(&mut M) -> bool),
    Look(fn(&M) -> bool),
    SetStep(Step),
    SetLabel(Label),
}

/// The lines of which a step was taken in any run so far.
pub static TAKEN: Mutex<BTreeSet<Line>> = Mutex::new(BTreeSet::new());

/// A machine on which one mutation happens, for one call of the protocol.
pub struct Mutated<M> {
    machine: M,
    mutation: Mutation,
    relaxes: Cell<bool>,
    line: Cell<Option<Line>>,
    put_off: RefCell<Option<Action<M>>>,
    /// Steps of the exit so far.
    steps: Cell<usize>,
}

impl<M> Mutated<M> {
    fn on(machine: M, mutation: Mutation, line: Option<Line>) -> Self {
        Self {
            machine,
            mutation,
            relaxes: Cell::new(false),
            line: Cell::new(line),
            put_off: RefCell::new(None),
            steps: Cell::new(0),
        }
    }

    /// For `tighten`.
    pub fn writer(machine: M, mutation: Mutation) -> Self {
        Self::on(machine, mutation, Some(Line::Tighten))
    }

    /// For `relax`.
    pub fn relaxer(machine: M, mutation: Mutation) -> Self {
        let relaxer = Self::on(machine, mutation, None);
        relaxer.relaxes.set(true);
        relaxer
    }

    /// For `settle` and `go_on`.
    pub fn cleaner(machine: M, mutation: Mutation) -> Self {
        Self::on(machine, mutation, None)
    }

    /// For `leave`.
    pub fn exit(machine: M, mutation: Mutation) -> Self {
        Self::on(machine, mutation, Some(Line::Leave))
    }

    /// Whether this step is to be taken now; if not, whether it is to be taken after the next one.
    fn turn(&self, name: &str) -> Turn {
        if let Some(line) = self.line.get() {
            TAKEN.lock().unwrap().insert(line);
        }
        let at = self.line.get().and_then(|line| {
            let at = match line {
                // It has one step twice.
                Line::Leave => self.steps.get(),
                _ => line.steps().iter().position(|step| *step == name)?,
            };
            Some((line, at))
        });
        self.steps.set(self.steps.get() + 1);
        match (self.mutation, at) {
            (Mutation::Drop(line, dropped), Some(at)) if at == (line, dropped) => Turn::Never,
            (Mutation::Swap(line, first), Some(at)) if at == (line, first) => Turn::Later,
            _ => Turn::Now,
        }
    }
}

/// When a step is taken.
enum Turn {
    Now,
    Later,
    Never,
}

impl<E: Exit> Mutated<E> {
    fn leave(&mut self, name: &str, action: fn(&mut E)) {
        match self.turn(name) {
            Turn::Never => {}
            Turn::Later => *self.put_off.borrow_mut() = Some(Action::Do(action)),
            Turn::Now => {
                action(&mut self.machine);
                if let Some(Action::Do(put_off)) = self.put_off.take() {
                    put_off(&mut self.machine);
                }
            }
        }
    }
}

impl<M: Machine> Mutated<M> {
    fn act(&mut self, action: &Action<M>) -> bool {
        let machine = &mut self.machine;
        match *action {
            Action::Do(action) => action(machine),
            Action::Ask(action) => return action(machine),
            Action::Look(action) => return action(machine),
            Action::SetStep(step) => machine.set_step(step),
            Action::SetLabel(label) => machine.set_label(label),
        }
        true
    }

    /// One that is not asked, or not yet, says that all is well.
    fn step(&mut self, name: &str, action: Action<M>) -> bool {
        match self.turn(name) {
            Turn::Never => true,
            Turn::Later => {
                *self.put_off.borrow_mut() = Some(action);
                true
            }
            Turn::Now => {
                let answer = self.act(&action);
                let put_off = self.put_off.take();
                // What was said to be well is not: only a look at it was put off.
                let well = put_off.is_none_or(|put_off| self.act(&put_off));
                if !well {
                    self.machine.trip();
                }
                answer
            }
        }
    }

    /// The same of a step that changes nothing, and is the first of its line.
    fn look_whether(&self, name: &str, action: fn(&M) -> bool) -> bool {
        match self.turn(name) {
            Turn::Never => true,
            Turn::Later => {
                *self.put_off.borrow_mut() = Some(Action::Look(action));
                true
            }
            Turn::Now => action(&self.machine),
        }
    }
}

impl<M: Machine> Machine for Mutated<M> {
    fn position(&self) -> (Step, u64) {
        let position = self.machine.position();
        let line = match (position.0, self.relaxes.get()) {
            (Step::Armed, true) => Some(Line::RelaxArmed),
            (Step::Cleared, true) => Some(Line::RelaxCleared),
            (Step::Armed, false) => Some(Line::GoOnArmed),
            (Step::Cleared, false) => Some(Line::GoOnCleared),
            (Step::Restored | Step::Tripped, _) => None,
        };
        self.line.set(line);
        position
    }
    fn set_step(&mut self, step: Step) {
        self.step("set_step", Action::SetStep(step));
    }
    fn look(&self) -> Seen {
        let seen = self.machine.look();
        let step = self.machine.position().0;
        match (seen.world(step), step) {
            (World::Relabelled, _) => self.relaxes.set(true),
            (World::Requeued, _) => self.line.set(Some(Line::SettleRequeued)),
            (World::Gone, Step::Cleared) => self.line.set(Some(Line::SettleGoneCleared)),
            (World::Gone, _) => self.line.set(Some(Line::SettleGoneArmed)),
            (World::AsLeft | World::Broken, _) => {}
        }
        seen
    }
    fn publish_strict_entry(&mut self) {
        self.step("publish_strict_entry", Action::Do(M::publish_strict_entry));
    }
    fn flush_and_drain(&mut self) {
        self.step("flush_and_drain", Action::Do(M::flush_and_drain));
    }
    fn arm_empty_rings(&mut self) -> bool {
        self.step("arm_empty_rings", Action::Ask(M::arm_empty_rings))
    }
    fn collect(&mut self) {
        self.machine.collect();
    }
    fn disarm_rings(&mut self) -> bool {
        self.step("disarm_rings", Action::Ask(M::disarm_rings))
    }
    fn ring_locks_are_free(&self) -> bool {
        self.look_whether("ring_locks_are_free", M::ring_locks_are_free)
    }
    fn rings_are_empty(&self) -> bool {
        self.look_whether("rings_are_empty", M::rings_are_empty)
    }
    fn shut_down_timer(&mut self) {
        self.step("shut_down_timer", Action::Do(M::shut_down_timer));
    }
    fn stop_timer(&mut self) {
        self.step("stop_timer", Action::Do(M::stop_timer));
    }
    fn allow_timer(&mut self) {
        self.step("allow_timer", Action::Do(M::allow_timer));
    }
    fn stop_queueing(&mut self) {
        self.step("stop_queueing", Action::Do(M::stop_queueing));
    }
    fn resume_queueing(&mut self) {
        self.step("resume_queueing", Action::Do(M::resume_queueing));
    }
    fn restore_entry(&mut self) {
        self.step("restore_entry", Action::Do(M::restore_entry));
    }
    fn free_rings(&mut self) {
        self.step("free_rings", Action::Do(M::free_rings));
    }
    fn set_rings_aside(&mut self) {
        self.step("set_rings_aside", Action::Do(M::set_rings_aside));
    }
    fn set_label(&mut self, label: Label) {
        self.step("set_label", Action::SetLabel(label));
    }
    fn pause(&mut self) {
        self.machine.pause();
    }
    fn trip(&mut self) {
        self.machine.trip();
    }
}

impl<E: Exit> Exit for Mutated<E> {
    fn wait_for_cleaner(&mut self) {
        self.leave("wait_for_cleaner", E::wait_for_cleaner);
    }
    fn restore_store(&mut self) {
        self.leave("restore_store", E::restore_store);
    }
    fn wait_for_readers(&mut self) {
        self.leave("wait_for_readers", E::wait_for_readers);
    }
    fn wait_for_writers(&mut self) {
        self.leave("wait_for_writers", E::wait_for_writers);
    }
}

/// A machine without a model: it writes down the names of the steps.
pub struct Names {
    pub names: RefCell<Vec<&'static str>>,
    step: Step,
    seen: Seen,
    /// The steps that say no.
    pub refuses: &'static str,
}

impl Names {
    /// Of a domain at this step, with whatever leads to this line.
    pub fn of(line: Line) -> Self {
        let (step, seen) = match line {
            Line::RelaxCleared | Line::GoOnCleared => (Step::Cleared, CLEARED),
            Line::SettleGoneCleared => (Step::Cleared, GONE),
            Line::SettleGoneArmed => (Step::Armed, GONE),
            Line::SettleRequeued => (
                Step::Cleared,
                Seen {
                    rings_are_ours: false,
                    label: Label::Lazy,
                    ..ARMED
                },
            ),
            _ => (Step::Armed, ARMED),
        };
        Self {
            names: RefCell::new(Vec::new()),
            step,
            seen,
            refuses: "",
        }
    }

    fn ask(&self, name: &'static str) -> bool {
        self.note(name);
        !self.refuses.contains(name)
    }

    fn note(&self, name: &'static str) {
        self.names.borrow_mut().push(name);
    }
}

/// What a domain looks like that was left in this step.
pub const ARMED: Seen = Seen {
    domain_is_ours: true,
    queueing: Queueing::On,
    rings_are_ours: true,
    timer: Timer::AsFound,
    label: Label::Strict,
};
pub const CLEARED: Seen = Seen {
    queueing: Queueing::Off,
    timer: Timer::ShutDown,
    ..ARMED
};
const GONE: Seen = Seen {
    domain_is_ours: false,
    ..ARMED
};

impl Machine for Names {
    fn position(&self) -> (Step, u64) {
        (self.step, 0)
    }
    fn set_step(&mut self, step: Step) {
        self.note("set_step");
        self.step = step;
    }
    fn look(&self) -> Seen {
        self.seen
    }
    fn publish_strict_entry(&mut self) {
        self.note("publish_strict_entry");
    }
    fn flush_and_drain(&mut self) {
        self.note("flush_and_drain");
    }
    fn arm_empty_rings(&mut self) -> bool {
        self.ask("arm_empty_rings")
    }
    fn collect(&mut self) {
        self.note("collect");
    }
    fn disarm_rings(&mut self) -> bool {
        self.ask("disarm_rings")
    }
    fn ring_locks_are_free(&self) -> bool {
        self.ask("ring_locks_are_free")
    }
    fn rings_are_empty(&self) -> bool {
        self.ask("rings_are_empty")
    }
    fn shut_down_timer(&mut self) {
        self.note("shut_down_timer");
    }
    fn stop_timer(&mut self) {
        self.note("stop_timer");
    }
    fn allow_timer(&mut self) {
        self.note("allow_timer");
    }
    fn stop_queueing(&mut self) {
        self.note("stop_queueing");
    }
    fn resume_queueing(&mut self) {
        self.note("resume_queueing");
    }
    fn restore_entry(&mut self) {
        self.note("restore_entry");
    }
    fn free_rings(&mut self) {
        self.note("free_rings");
    }
    fn set_rings_aside(&mut self) {
        self.note("set_rings_aside");
    }
    fn set_label(&mut self, _label: Label) {
        self.note("set_label");
    }
    fn pause(&mut self) {
        self.note("pause");
    }
    fn trip(&mut self) {
        self.note("trip");
    }
}

impl Exit for Names {
    fn wait_for_cleaner(&mut self) {
        self.note("wait_for_cleaner");
    }
    fn restore_store(&mut self) {
        self.note("restore_store");
    }
    fn wait_for_readers(&mut self) {
        self.note("wait_for_readers");
    }
    fn wait_for_writers(&mut self) {
        self.note("wait_for_writers");
    }
}

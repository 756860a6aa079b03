// SPDX-License-Identifier: GPL-2.0-only
//! The module's side of a domain: [`Machine`], those who write the type, and the cleaner.

use loom::sync::atomic::Ordering;
use loom::sync::MutexGuard;

use crate::domain::{Domain, Entry, Group, Ring, CPUS, ORIGINAL};
use crate::ghost::{check, note, property, Giver};
use crate::grace::GracePeriod;
use crate::mutation::{Fault, Mutated};
use crate::protocol::{
    go_on, relax, settle, tighten, Label, Machine, Next, Queueing, Seen, Step, Timer, World,
};

/// More passes over the rings than a tighten makes if each page's unmap makes one necessary.
const PASSES: u32 = 5;

/// What the module knows of a domain.
pub struct State {
    step: Step,
    number: u64,
    copy: usize,
    /// The rings that were there at the tighten.
    rings: usize,
    aside: Vec<usize>,
    /// What the number of flushes was, but for those of the module's own.
    flushes: usize,
}

/// A domain under the group's mutex.
pub struct Switch<'d, 'g> {
    domain: &'d Domain,
    group: &'g mut Group,
    passes: u32,
}

impl<'d, 'g> Switch<'d, 'g> {
    fn of(domain: &'d Domain, group: &'g mut Group) -> Self {
        Self {
            domain,
            group,
            passes: 0,
        }
    }

    fn state(&self) -> &State {
        self.group.state.as_ref().unwrap()
    }

    fn state_mut(&mut self) -> &mut State {
        self.group.state.as_mut().unwrap()
    }

    fn is(&self, fault: Fault) -> bool {
        self.domain.mutation.is(fault)
    }

    fn with_ring<T>(&self, cpu: usize, section: impl FnOnce(&mut Ring) -> T) -> T {
        let mut ring = self.domain.lock_ring(self.state().rings, cpu, None);
        section(ring.ring())
    }

    /// What was taken out of a slot.
    fn give_back(&self, slot: &Entry) {
        let ghost = &self.domain.ghost;
        let pages = slot.freelist.iter().flatten();
        pages.for_each(|page| ghost.free_table(*page));
        if slot.pages != 0 || self.is(Fault::CollectEmpty) {
            ghost.give_back(slot.page, slot.pages, Giver::Module);
        }
    }

    fn flush(&mut self) {
        self.domain.flush_timeout();
        self.state_mut().flushes += 1;
    }

    /// What late comers flushed is not told from what the timer flushed, so this is how many there may have been at most.
    fn count(&mut self) {
        let flushes = self.domain.flush_started.load(Ordering::Relaxed);
        let counted = !self.is(Fault::CountNothing);
        let most = if counted {
            flushes - self.state().flushes
        } else {
            0
        };
        check(self.domain.ghost.given_up() <= most, property::COUNT);
    }
}

fn is_armed(ring: &Ring) -> bool {
    (ring.head, ring.tail, ring.mask) == (0, 0, 0)
}

fn take_slot(ring: &mut Ring, fault: bool) -> Entry {
    let slot = &mut ring.entries[0];
    let taken = slot.clone();
    if !fault {
        slot.pages = 0;
    }
    slot.freelist = Some(Vec::new());
    taken
}

impl Machine for Switch<'_, '_> {
    fn position(&self) -> (Step, u64) {
        let state = self.state();
        let number = if self.is(Fault::NoGeneration) {
            0
        } else {
            state.number
        };
        (state.step, number)
    }

    fn set_step(&mut self, step: Step) {
        note(|| format!("{step:?}"));
        let state = self.state_mut();
        state.step = step;
        state.number += 1;
    }

    fn look(&self) -> Seen {
        let (domain, state) = (self.domain, self.state());
        let ops = domain.ops.load(Ordering::Relaxed);
        let seen = Seen {
            domain_is_ours: self.group.domain && ops == state.copy + 1,
            queueing: match domain.fq_domain.load(Ordering::Relaxed) {
                true => Queueing::On,
                false => Queueing::Off,
            },
            rings_are_ours: domain.rings() == Some(state.rings),
            timer: match domain.timer.lock().unwrap().shut_down {
                true => Timer::ShutDown,
                false => Timer::AsFound,
            },
            label: self.group.label,
        };
        if seen.domain_is_ours && self.is(Fault::CompareOnlyTheSlot) {
            let armed = state.step == Step::Armed;
            return Seen {
                domain_is_ours: true,
                queueing: if armed { Queueing::On } else { Queueing::Off },
                rings_are_ours: true,
                timer: if armed {
                    Timer::AsFound
                } else {
                    Timer::ShutDown
                },
                label: Label::Strict,
            };
        }
        seen
    }

    fn publish_strict_entry(&mut self) {
        self.domain.ghost.publish();
        let copy = self.state().copy;
        self.domain.ops.store(copy + 1, Ordering::Release);
    }

    fn flush_and_drain(&mut self) {
        if self.passes == 0 || !self.is(Fault::FlushOnce) {
            self.flush();
        }
    }

    fn arm_empty_rings(&mut self) -> bool {
        note(|| "arm".to_owned());
        let mut all = true;
        for cpu in 0..CPUS {
            if cpu == 1 && self.is(Fault::SkipOneCpu) {
                continue;
            }
            let anyhow = self.is(Fault::ArmNonEmpty);
            let zeroed = self.is(Fault::ZeroTheList);
            all &= self.with_ring(cpu, |ring| {
                if is_armed(ring) {
                    return true;
                }
                if ring.head != ring.tail && !anyhow {
                    return false;
                }
                (ring.head, ring.tail, ring.mask) = (0, 0, 0);
                let slot = &mut ring.entries[0];
                slot.pages = 0;
                slot.freelist = (!zeroed).then(Vec::new);
                true
            });
        }
        all
    }

    fn collect(&mut self) {
        let stale = self.is(Fault::CollectTwice);
        for cpu in 0..CPUS {
            if self.is(Fault::CollectByDisarming) {
                let mask = self.domain.kind.mask;
                self.with_ring(cpu, |ring| {
                    ring.mask = mask;
                    ring.tail = usize::from(ring.entries[0].pages != 0);
                });
                self.flush();
                self.arm_empty_rings();
                continue;
            }
            if self.is(Fault::CollectWithoutLock) {
                let seen = self.with_ring(cpu, |ring| ring.entries[0].clone());
                self.with_ring(cpu, |ring| take_slot(ring, false));
                self.give_back(&seen);
                continue;
            }
            let slot = self.with_ring(cpu, |ring| take_slot(ring, stale));
            self.give_back(&slot);
        }
        self.count();
    }

    fn disarm_rings(&mut self) -> bool {
        note(|| "disarm".to_owned());
        let mut all = true;
        let mask = self.domain.kind.mask;
        let mask = if self.is(Fault::OtherMask) {
            mask * 2 + 1
        } else {
            mask
        };
        for cpu in 0..CPUS {
            let drop = self.is(Fault::DisarmWithoutCollecting);
            let slot = self.with_ring(cpu, |ring| {
                if !is_armed(ring) {
                    return None;
                }
                ring.mask = mask;
                Some(take_slot(ring, false))
            });
            match slot {
                Some(slot) if !drop => self.give_back(&slot),
                Some(_) => {}
                None => all = false,
            }
        }
        self.count();
        all
    }

    fn ring_locks_are_free(&self) -> bool {
        let mut locks = self.domain.ring_locks(self.state().rings);
        locks.all(|lock| lock.is_free())
    }

    fn rings_are_empty(&self) -> bool {
        let full = |entry: &Entry| entry.pages != 0;
        (0..CPUS).all(|cpu| !self.with_ring(cpu, |ring| ring.queued().iter().any(full)))
    }

    fn shut_down_timer(&mut self) {
        self.domain.shut_down();
    }

    fn stop_timer(&mut self) {
        self.domain.keep_timer_off();
    }

    fn allow_timer(&mut self) {
        if self.is(Fault::TimerStaysOn) {
            self.domain.timer.lock().unwrap().shut_down = false;
        } else {
            self.domain.allow_timer();
        }
    }

    fn stop_queueing(&mut self) {
        note(|| "fq_domain = NULL".to_owned());
        self.domain.fq_domain.store(false, Ordering::Relaxed);
    }

    fn resume_queueing(&mut self) {
        note(|| "fq_domain set".to_owned());
        self.domain.fq_domain.store(true, Ordering::Release);
    }

    fn restore_entry(&mut self) {
        self.domain.ghost.restore();
        self.domain.ops.store(ORIGINAL, Ordering::Release);
    }

    fn free_rings(&mut self) {
        let rings = self.state().rings;
        self.domain.free_rings(rings);
        // Another domain, even one at the same address, has others.
        if self.group.domain && self.domain.rings() == Some(rings) {
            self.domain.forget_rings();
        }
    }

    fn set_rings_aside(&mut self) {
        let state = self.state_mut();
        state.aside.push(state.rings);
    }

    fn set_label(&mut self, label: Label) {
        self.group.label = label;
        if label == Label::Strict {
            self.domain.ghost.say_strict();
        }
    }

    fn pause(&mut self) {
        self.passes += 1;
        check(self.passes < PASSES, property::ENDLESS);
    }

    fn trip(&mut self) {
        self.domain.ghost.trip();
    }
}

impl Domain {
    /// What a machine needs: the copy is filled in, and what is there is noted.
    fn prepare(&self, group: &mut Group) {
        let (rings, flushes) = (self.rings(), self.flush_started.load(Ordering::Relaxed));
        check(rings.is_some(), property::RINGS);
        let rings = rings.unwrap();
        if let Some(state) = &mut group.state {
            state.rings = rings;
            state.flushes = flushes;
            return;
        }
        let copy = self.ghost.new_entry();
        self.copies[copy].store(true, Ordering::Relaxed);
        group.state = Some(State {
            // There is no step before the first.
            step: Step::Restored,
            number: 0,
            copy,
            rings,
            aside: Vec::new(),
            flushes,
        });
    }

    fn step(group: &Group) -> Option<Step> {
        group.state.as_ref().map(|state| state.step)
    }

    fn is_in_clean_up(group: &Group) -> bool {
        matches!(Self::step(group), Some(Step::Armed | Step::Cleared))
    }

    /// A write of `DMA`. Whether there is something new to be cleaned up.
    pub fn write_dma(&self) -> bool {
        let mut group = self.group.lock().unwrap();
        if !group.domain || Self::step(&group) == Some(Step::Tripped) {
            return false;
        }
        if Self::is_in_clean_up(&group) {
            let mut machine = Mutated::cleaner(Switch::of(self, &mut group), self.mutation);
            if settle(&mut machine) {
                return false;
            }
        }
        if group.label != Label::Lazy {
            return false;
        }
        let fresh = group.state.is_none();
        self.prepare(&mut group);
        tighten(&mut Mutated::writer(
            Switch::of(self, &mut group),
            self.mutation,
        ));
        fresh
    }

    /// A write of `DMA-FQ`.
    pub fn write_lazy(&self) {
        {
            let mut group = self.group.lock().unwrap();
            if Self::is_in_clean_up(&group) {
                let mut machine = Mutated::cleaner(Switch::of(self, &mut group), self.mutation);
                if settle(&mut machine) {
                    self.ghost.say_lazy();
                    relax(&mut Mutated::relaxer(
                        Switch::of(self, &mut group),
                        self.mutation,
                    ));
                    return;
                }
            }
            if Self::step(&group) == Some(Step::Tripped) {
                return;
            }
        }
        // Passed on.
        self.store_lazy();
    }

    /// Gives back what late comers have left, as the cleaner does it every millisecond.
    pub fn collect(&self) {
        let mut group = self.group.lock().unwrap();
        self.collect_under(&mut group);
    }

    fn collect_under(&self, group: &mut Group) {
        if Self::step(group) != Some(Step::Armed) {
            return;
        }
        let mut machine = Switch::of(self, group);
        let blind = self.mutation.is(Fault::CollectBlindly);
        if blind || machine.look().world(Step::Armed) != World::Gone {
            machine.collect();
        }
    }

    /// The driver was unbound (`BUS_NOTIFY_UNBOUND_DRIVER`): nobody unmaps any more. Then the device leaves, and the domain
    /// with it.
    pub fn device_leaves(&self) {
        if !self.mutation.is(Fault::NoCollectionAtUnbind) {
            self.collect();
        }
        let mut group = self.group.lock().unwrap();
        self.tear_down(&mut group);
    }

    /// The same, but another domain follows.
    pub fn domain_changes(&self) {
        self.collect();
        let mut group = self.group.lock().unwrap();
        self.replace(&mut group);
    }

    fn lock_for_clean_up(&self) -> MutexGuard<'_, Group> {
        let group = self.group.lock().unwrap();
        self.ghost.cleaner_has_mutex(true);
        group
    }

    /// A device joins the group: the domain is there already (`iommu_dma_init_domain()`), and the type is read.
    pub fn device_joins(&self) {
        let group = self.group.lock().unwrap();
        let strict = group.label == Label::Strict;
        check(!strict || self.ghost.is_strict(), property::LABEL);
    }

    /// Cleans up, from after a tighten to its end.
    pub fn clean_up(&self) {
        let position = {
            let mut group = self.group.lock().unwrap();
            Switch::of(self, &mut group).position()
        };
        self.clean_up_from(position);
    }

    /// The same, from after this.
    pub fn clean_up_from(&self, mut waited: (Step, u64)) {
        while let Some(next) = self.wait_and_go_on(waited) {
            waited = next;
        }
    }

    /// Cleans up until `fq_domain` is NULL, from after a tighten. Nobody else writes meanwhile.
    pub fn clear(&self) -> (Step, u64) {
        let position = {
            let mut group = self.group.lock().unwrap();
            Switch::of(self, &mut group).position()
        };
        let next = self.wait_and_go_on(position);
        check(next.is_some(), property::LEFT);
        next.unwrap()
    }

    fn wait_and_go_on(&self, waited: (Step, u64)) -> Option<(Step, u64)> {
        let skipped = match waited.0 {
            Step::Armed => Fault::NoFirstWait,
            Step::Cleared => Fault::NoSecondWait,
            Step::Restored | Step::Tripped => Fault::NoThirdWait,
        };
        if !self.mutation.is(skipped) {
            self.grace_period(waited.0);
        }
        self.go_on(waited.1)
    }

    fn grace_period(&self, step: Step) {
        let held = self.mutation.is(Fault::WaitWithTheMutex);
        let group = held.then(|| self.lock_for_clean_up());
        self.ghost.wait_for_tasks();
        let period = GracePeriod::begin(&self.readers);
        if step == Step::Armed {
            self.collect();
        }
        period.wait();
        drop(group);
    }

    /// One section of the mutex, or several where locks sleep. What to wait for next, if anything.
    fn go_on(&self, waited: u64) -> Option<(Step, u64)> {
        loop {
            let mut group = self.lock_for_clean_up();
            let mut machine = Mutated::cleaner(Switch::of(self, &mut group), self.mutation);
            let next = go_on(&mut machine, waited);
            let position = machine.position();
            let rings = group.state.as_ref().unwrap().rings;
            if next == Next::Free && self.mutation.is(Fault::FreeInAnotherSection) {
                self.ghost.cleaner_has_mutex(false);
                drop(group);
                group = self.lock_for_clean_up();
            }
            if next == Next::Free {
                let state = group.state.take().unwrap();
                if !self.kind.kept {
                    self.copies[state.copy].store(false, Ordering::Relaxed);
                    self.ghost.free_entry(state.copy);
                }
                state.aside.iter().for_each(|set| self.free_rings(*set));
            }
            self.ghost.cleaner_has_mutex(false);
            drop(group);
            match next {
                Next::GracePeriod => return Some(position),
                Next::Soon => self
                    .ring_locks(rings)
                    .for_each(|lock| lock.wait_until_free()),
                Next::Free | Next::Stay => return None,
            }
        }
    }
}

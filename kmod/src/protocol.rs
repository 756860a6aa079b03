// SPDX-License-Identifier: GPL-2.0-only

//! The order in which a live tighten (`DMA-FQ` to `DMA`) happens, what follows it, and the order
//! in which the module leaves; and why.
//!
//! This file knows nothing of the kernel: it is `no_std`, has no `unsafe`, and acts through
//! [`Machine`] and [`Exit`]. The module implements them on the kernel's structures; a model checker
//! implements them on modelled ones. What is checked is what is shipped.
//!
//! # The problem
//!
//! An unmap samples the mode once (`__iommu_dma_unmap()` in `drivers/iommu/dma-iommu.c` reads
//! `cookie->fq_domain` into `gather.queued`; in 7.2 `__iommu_dma_iova_unlink()` is a second
//! sampler, of the same shape). If the sample says *queued*, the page table is changed, nothing is
//! invalidated, and `queue_iova()` puts the IOVA into the flush queue of this CPU, a ring; a timer,
//! or a full ring, later invalidates everything and frees the IOVAs. Otherwise the unmap
//! invalidates before it returns. A *straggler* is a task that sampled *queued* and was preempted
//! before it reached its ring. The scheduler decides when it goes on, and a task that never sleeps
//! may keep it waiting for minutes.
//!
//! # Why nobody has to wait for stragglers
//!
//! `queue_iova()` does, with the ring's lock held: free what has been flushed; *if the ring is
//! full, flush the whole IOTLB*; add the entry. A ring is full if `(tail + 1) & mod_mask == head`,
//! and every loop over it runs from `head` to `tail`. A ring with `head = tail = mod_mask = 0` is
//! therefore empty for every loop and full for every producer, for ever. This file calls such a
//! ring *armed*.
//!
//! Take any unmap of the domain that sampled *queued* and changes its page table entry, and let all
//! rings be armed at some moment T.
//!
//! * It goes through the strict entry: then it invalidates before it returns.
//! * It takes the lock of its ring after the ring was armed: the ring is full, so it flushes the
//!   whole IOTLB, after its change of the page table and before it returns.
//! * It took that lock before the ring was armed: its entry was in the ring. A ring is armed only
//!   while it is empty, under the same lock; an entry leaves a ring only after a flush that began
//!   after the entry was added, and the change of the page table precedes the entry
//!   (`fq_ring_free_locked()` compares `counter` with `fq_flush_finish_cnt`, and `queue_iova()`
//!   begins with a full barrier). So the flush is over. (A ring can also look empty because it
//!   overflowed: while another flush is under way, `queue_iova()` may find that nothing can be
//!   freed in a full ring, and adds nevertheless. Whoever did that had flushed everything by itself
//!   after all entries were added, so this holds; what is lost is IOVA space, with or without this
//!   module.)
//!
//! In each case no unmap that returned by T, and none that returns later, leaves its range in the
//! IOTLB. That is what *strict* means, it holds at T, and nothing was waited for. It does not
//! depend on tasks-RCU, on the scheduler, or on what sleeps where.
//!
//! The strict entry is there for two other reasons. Without it every later unmap would flush the
//! whole IOTLB; and somebody would always be about to use the rings, which could then never be
//! freed.
//!
//! # What tasks-RCU is for
//!
//! For memory, and for nothing else. Rings, the copy of the operations table and the module's text
//! may go only when nobody can reach them any more. [`go_on`] does that step by step; between its
//! steps a grace period passes in which no lock is held, however long that takes.
//!
//! # Invariants
//!
//! * **I1** From [`tighten`]'s return until a relax, the domain is strict.
//! * **I2** Until all rings are armed, timer, rings and `fq_domain` serve those who queue as they
//!   always do, so no IOVA is lazy for longer than without this module.
//! * **I3** `fq_domain` is never NULL while a ring is armed: a producer that finds a full ring
//!   follows it, with the ring's lock held. (To wait for the readers of the strict entry does not
//!   exclude this: for an unmap of no bytes the kernel never calls the unmap entry of SMMUv3 or
//!   virtio-iommu, so its sample is not corrected. It queues a range of no pages, which is
//!   harmless in a ring that is not armed, unless so many are on their way at the same time that
//!   the ring fills up. Nobody is known to unmap no bytes.)
//! * **I4** When `fq_domain` becomes NULL, everybody who might take the old entry with a *queued*
//!   sample has left. When the entry is restored, no *queued* sample is left but those of I3.
//! * **I5** The copy of the operations table, and the module's text, go only after a grace period
//!   that began when no live domain pointed to the copy any more: after [`Machine::restore_entry`],
//!   or after the domain was freed. That is enough: an unmap that begins later does not find the
//!   copy, and one that had loaded its address is waited for. It cannot sleep before it has
//!   left: the kernel loads the address anew for each call (`__iommu_unmap()`), and the audited
//!   drivers' entries do not sleep (`drivers.rs`). Where the kernel keeps the address over a
//!   sleep no grace period is enough, and the copy is never freed (`strict_ops.rs`).
//! * **I6** Whatever was left in a slot by a late comer is given back once, or counted as given up.
//!
//! # Late comers
//!
//! A straggler that comes to an armed ring puts its entry into slot 0, which no loop sees. The next
//! one on that ring overwrites the range (its page table pages are spliced to the others, not
//! lost): the first range is then given up until the domain is freed. [`Machine::collect`] empties
//! the slots, often, *without disarming*: in a ring that is not armed a straggler would queue
//! lazily. No flush is needed for what is collected: whoever filled the slot had flushed first,
//! after its change.

/// How far the kernel's structures of one domain are from what they were.
///
/// There is also the state before all of them, in which the module has not touched the domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Step {
    /// The strict entry is published, every ring is armed, and the timer is stopped. `fq_domain` is as
    /// it was.
    Armed,
    /// `fq_domain` is NULL, the timer is shut down, and the rings are as they were, and empty.
    Cleared,
    /// The original entry is back. Only memory is left.
    Restored,
    /// An invariant was seen broken. The strict entry stays for ever, and the rings with it.
    Tripped,
}

/// What the group's domain looks like, under the group's mutex.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) struct Seen {
    /// The group's default domain is the one that was tightened, and follows our entry. If not,
    /// nothing else here was looked at.
    pub(crate) domain_is_ours: bool,
    /// Where `fq_domain` points to.
    pub(crate) queueing: Queueing,
    /// The rings are those that were there at the tighten.
    pub(crate) rings_are_ours: bool,
    /// What the flush timer calls.
    pub(crate) timer: Timer,
    /// What the type says.
    pub(crate) label: Label,
}

/// Where `fq_domain` points to.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Queueing {
    /// To its own domain.
    On,
    /// Nowhere.
    Off,
    /// Elsewhere.
    Other,
}

/// What the flush timer calls.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Timer {
    /// What it called at the tighten.
    AsFound,
    /// Nothing: it is shut down.
    ShutDown,
    /// Something else.
    Other,
}

/// What the type says.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Label {
    /// `DMA`.
    Strict,
    /// `DMA-FQ`.
    Lazy,
    /// Anything else.
    Other,
}

/// What happened to the domain since this module looked last.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum World {
    /// Nothing.
    AsLeft,
    /// The kernel's own store changed the label to `DMA-FQ`, and nothing else: it found a flush
    /// queue (`iommu_dma_init_fq()` returns at once). Its writer was inside that store before this
    /// module took it over, and so in none of our locks.
    Relabelled,
    /// The same, but it found none, and made one of its own.
    Requeued,
    /// The domain is no longer the group's, and was freed; or something else made it point to another
    /// table. Nothing is put back then.
    Gone,
    /// Something that nobody is known to do.
    Broken,
}

impl Seen {
    /// Compares with what `step` left.
    pub(crate) fn world(self, step: Step) -> World {
        if !self.domain_is_ours {
            return World::Gone;
        }
        match (step, self) {
            (
                Step::Armed,
                Seen {
                    queueing: Queueing::On,
                    rings_are_ours: true,
                    timer: Timer::AsFound,
                    label,
                    ..
                },
            ) => match label {
                Label::Strict => World::AsLeft,
                Label::Lazy => World::Relabelled,
                Label::Other => World::Broken,
            },
            (
                Step::Cleared,
                Seen {
                    queueing: Queueing::Off,
                    rings_are_ours: true,
                    timer: Timer::ShutDown,
                    label: Label::Strict,
                    ..
                },
            ) => World::AsLeft,
            (
                Step::Cleared,
                Seen {
                    queueing: Queueing::On,
                    rings_are_ours: false,
                    label: Label::Lazy,
                    ..
                },
            ) => World::Requeued,
            _ => World::Broken,
        }
    }
}

/// The steps, as the kernel provides them, for one domain, with the group's mutex held.
///
/// All of them are infallible: what can fail (allocation, checks) has been done when the machine is
/// made, before the first visible change. None of them waits for a task.
pub(crate) trait Machine {
    /// Where the domain is, and how often that has changed.
    fn position(&self) -> (Step, u64);

    /// Notes where the domain is, and raises the number that [`Self::position`] tells.
    fn set_step(&mut self, step: Step);

    /// Looks at the domain.
    fn look(&self) -> Seen;

    /// Makes every new unmap of the domain strict, whatever mode it sampled: publishes page-table
    /// operations whose unmap entry clears `gather->queued` before it touches a page table entry.
    ///
    /// Must be a release: who sees the new operations sees them complete.
    fn publish_strict_entry(&mut self);

    /// Invalidates the whole IOTLB of the domain, then frees every entry of its rings that the
    /// invalidation covers.
    fn flush_and_drain(&mut self);

    /// Arms each ring that is empty and is not armed yet, with its lock held. Whether all are armed
    /// now.
    fn arm_empty_rings(&mut self) -> bool;

    /// Gives back what late comers left in armed rings, which stay armed.
    fn collect(&mut self);

    /// Puts each ring back to what it was before it was armed, and gives back what a late comer
    /// left there, in one section of its lock. Whether all of them were armed, and as we left them.
    fn disarm_rings(&mut self) -> bool;

    /// Whether nobody holds the lock of a ring or sleeps for it.
    ///
    /// Only where spin locks sleep (`PREEMPT_RT`) is there somebody to find: to tasks-RCU, a task
    /// that sleeps for a lock has left the unmap, though it will be back at the ring.
    fn ring_locks_are_free(&self) -> bool;

    /// Whether nothing is in the rings, but for ranges of no pages.
    fn rings_are_empty(&self) -> bool;

    /// Keeps those who queue from arming the flush timer, and stops it.
    fn stop_timer(&mut self);

    /// Lets those who queue arm the flush timer: undoes [`Self::stop_timer`] and
    /// [`Self::shut_down_timer`]. Must be a release: the timer follows `fq_domain`.
    fn allow_timer(&mut self);

    /// Ends the flush timer: it is not running when this returns and cannot be armed.
    fn shut_down_timer(&mut self);

    /// Makes new unmaps sample strict by themselves (`fq_domain = NULL`).
    fn stop_queueing(&mut self);

    /// Makes new unmaps sample *queued* again. Must be a release: who sees this sees the rings
    /// complete.
    fn resume_queueing(&mut self);

    /// Puts the original page-table operations back. Must be a release: who queues because of that
    /// finds rings that are not armed, and a timer.
    fn restore_entry(&mut self);

    /// Frees the rings, and forgets them where the domain is still there to have them.
    fn free_rings(&mut self);

    /// Keeps the rings until the copy goes; others are in their place.
    fn set_rings_aside(&mut self);

    /// Makes the domain's type read so.
    fn set_label(&mut self, label: Label);

    /// Lets others run between two passes over the rings.
    fn pause(&mut self);

    /// Says that an invariant was seen broken. Called once for each domain.
    fn trip(&mut self);
}

/// What is to be done next about a domain.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Next {
    /// Begin a grace period, let it pass, and [`go_on`].
    GracePeriod,
    /// [`go_on`] again in a moment.
    Soon,
    /// Free the copy of the operations table, and what [`Machine::set_rings_aside`] kept. It is to be
    /// taken away from the domain in the same section of the group's mutex: a writer that comes
    /// between would tighten again with it.
    Free,
    /// Nothing, for ever.
    Stay,
}

/// How often [`tighten`] and [`rearm`] go over the rings.
///
/// Each pass finds all rings empty, unless a straggler has come to one of them since the flush. So
/// there are fewer passes than tasks; with more than this, something is not as it is known to be.
const MAX_PASSES: u32 = 10_000;

/// Makes a lazy domain strict while its devices run. Whether it is; if not, an invariant was seen
/// broken.
///
/// The caller holds the group's mutex from before the checks that made `machine`: a switch cannot
/// race with another, nor with a change of the domain.
pub(crate) fn tighten<M: Machine>(machine: &mut M) -> bool {
    machine.publish_strict_entry();
    if !arm(machine) {
        trip(machine);
        return false;
    }
    // I1.
    machine.set_label(Label::Strict);
    machine.set_step(Step::Armed);
    true
}

/// Flushes, and arms what is empty then, until all rings are armed. Whether they are.
fn arm<M: Machine>(machine: &mut M) -> bool {
    for _ in 0..MAX_PASSES {
        machine.flush_and_drain();
        if machine.arm_empty_rings() {
            // Nothing will be in a ring that the timer would have to come for. Until here it served
            // those who found rings that were not armed (I2).
            machine.stop_timer();
            return true;
        }
        machine.pause();
    }
    false
}

/// Makes a domain lazy again before its clean-up is over, as it was before [`tighten`].
///
/// The caller holds the group's mutex, and has found the domain in [`Step::Armed`] or
/// [`Step::Cleared`], and [`World::AsLeft`] or [`World::Relabelled`].
pub(crate) fn relax<M: Machine>(machine: &mut M) {
    match machine.position().0 {
        // Before the original entry is back: unmaps that come through it would all find full rings,
        // and overwrite what the one before them left in the slot.
        Step::Armed => {
            // A straggler may queue as soon as its ring is not armed.
            machine.allow_timer();
            if !machine.disarm_rings() {
                rearm(machine);
                return trip(machine);
            }
        }
        // The timer follows `fq_domain`, and an unmap of no bytes (I3) may be about to arm it. Between
        // the two, whoever samples *queued* still takes the strict entry.
        Step::Cleared => {
            machine.resume_queueing();
            machine.allow_timer();
        }
        Step::Restored | Step::Tripped => return,
    }
    machine.restore_entry();
    machine.set_label(Label::Lazy);
    machine.set_step(Step::Restored);
}

/// Looks at the domain anew, and deals with what others did to it since it was left. Whether it is
/// strict, and as it was left.
///
/// The caller holds the group's mutex.
pub(crate) fn settle<M: Machine>(machine: &mut M) -> bool {
    let step = machine.position().0;
    if matches!(step, Step::Restored | Step::Tripped) {
        return false;
    }
    match (machine.look().world(step), step) {
        (World::AsLeft, _) => return true,
        (World::Relabelled, _) => relax(machine),
        // Those who sampled *queued* since then are served by the other rings.
        (World::Requeued, _) => {
            machine.restore_entry();
            machine.set_rings_aside();
            machine.set_step(Step::Restored);
        }
        // The kernel freed the rings that it knew of: before `fq_domain` was NULL. Devices, and all
        // who unmap for them, left before the domain.
        (World::Gone, Step::Cleared) => {
            machine.free_rings();
            machine.set_step(Step::Restored);
        }
        (World::Gone, _) => machine.set_step(Step::Restored),
        (World::Broken, _) => trip(machine),
    }
    false
}

/// Goes on with the clean-up, after a grace period that began when [`Machine::position`] told
/// `waited`. Must be told anew after each one that it asks for.
///
/// The caller holds the group's mutex, and held it for nothing while the grace period passed. So
/// the domain may have been relaxed, tightened again, freed or replaced by one at the same address:
/// the number tells these apart where pointers would not.
pub(crate) fn go_on<M: Machine>(machine: &mut M, waited: u64) -> Next {
    settle(machine);
    let (step, now) = machine.position();
    if now != waited && step != Step::Tripped {
        return Next::GracePeriod;
    }
    match step {
        Step::Armed => {
            // Nobody is left between the sample and a ring, but who sleeps for a ring's lock.
            if !machine.ring_locks_are_free() {
                return Next::Soon;
            }
            // It reads `fq_domain`.
            machine.shut_down_timer();
            // I3: before `fq_domain` is NULL.
            if !machine.disarm_rings() {
                rearm(machine);
                trip(machine);
                return Next::Stay;
            }
            machine.stop_queueing();
            machine.set_step(Step::Cleared);
            Next::GracePeriod
        }
        Step::Cleared => {
            if !machine.rings_are_empty() {
                machine.resume_queueing();
                rearm(machine);
                trip(machine);
                return Next::Stay;
            }
            // I4.
            machine.restore_entry();
            machine.free_rings();
            machine.set_step(Step::Restored);
            Next::GracePeriod
        }
        // I5.
        Step::Restored => Next::Free,
        Step::Tripped => Next::Stay,
    }
}

/// Arms again what was disarmed, and flushes what somebody queued meanwhile who should not have been
/// there. `fq_domain` is not NULL.
fn rearm<M: Machine>(machine: &mut M) {
    // What keeps a ring from being armed is as unknown as what broke. If it stays so, the timer does
    // what it always does.
    machine.allow_timer();
    arm(machine);
}

/// Stops the clean-up of a domain for ever: from here on it costs time, and no memory is freed.
fn trip<M: Machine>(machine: &mut M) {
    machine.set_step(Step::Tripped);
    machine.trip();
}

/// The steps of the module's exit, as the kernel provides them.
///
/// Every domain that is being switched or cleaned up holds a reference of the module. So when this
/// begins there is none, and there will be none.
pub(crate) trait Exit {
    /// Waits until whoever cleaned up has left the module.
    fn wait_for_cleaner(&mut self);

    /// Puts the kernel's own `store` back.
    fn restore_store(&mut self);

    /// Waits until every task that was anywhere in the kernel with preemption on, and every section
    /// with preemption off, has been through a quiescent state.
    fn wait_for_readers(&mut self);

    /// Waits until every writer that has counted itself in has counted itself out. Must be an
    /// acquire.
    fn wait_for_writers(&mut self);
}

/// Leaves the `type` attribute: when this returns, nobody is in the module's text, nor will be.
///
/// A writer sleeps while it is in `store`, and to tasks-RCU a task that sleeps is nowhere. So
/// writers are counted, and tasks-RCU only covers them before they are counted and after.
pub(crate) fn leave<E: Exit>(exit: &mut E) {
    exit.wait_for_cleaner();
    exit.restore_store();
    // Who has loaded our pointer has counted itself in by now, or has left.
    exit.wait_for_readers();
    exit.wait_for_writers();
    // The last one may be on its way from the decrement to its return.
    exit.wait_for_readers();
}

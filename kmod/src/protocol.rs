// SPDX-License-Identifier: GPL-2.0-only

//! The order in which a live tighten (`DMA-FQ` to `DMA`) happens, and the order in which the
//! module leaves, and why.
//!
//! This file knows nothing of the kernel: it is `no_std`, has no `unsafe`, and acts through
//! [`Machine`], [`Remnant`], [`Service`] and [`Exit`]. The module implements them on the kernel's
//! structures; a model checker implements them on modelled ones. What is checked is what is
//! shipped.
//!
//! # What must be true
//!
//! An unmap samples the mode once (`__iommu_dma_unmap()` in `drivers/iommu/dma-iommu.c`: it reads
//! `cookie->fq_domain` into `gather.queued`). If the sample says *queued*, the page table is
//! changed, nothing is invalidated, and the IOVA goes into a flush queue; a timer, or a full ring,
//! later invalidates everything and frees the IOVAs. Otherwise the unmap invalidates before it
//! returns. A *straggler* is a task that sampled *queued* and was preempted before it finished.
//!
//! When [`tighten`] reports that the domain is strict, no unmap that had returned by then, and
//! none that returns later, leaves its range reachable through the IOTLB; and nothing that a
//! straggler or the timer can still touch has been freed.
//!
//! # Invariants
//!
//! * **I1** Once the readers that may predate the strict entry have gone, nobody can put an IOVA
//!   into the flush queue of this domain any more. (But for an unmap of no bytes, where the kernel
//!   calls the unmap entry once for each block: it calls none, and queues a range of no pages. That
//!   leaves nothing reachable, and is gone by I4.)
//! * **I2** Until then timer, rings and `fq_domain` are untouched, so no IOVA stays lazy for
//!   longer than it does without us.
//! * **I3** After the flush that follows I1 and the end of the timer, the domain is strict.
//! * **I4** Once `fq_domain` is NULL and its readers have gone, no stale *queued* sample survives,
//!   and the original page-table operations may come back.
//! * **I5** Once the readers that may be inside the strict entry have gone, its memory may go, and
//!   so may the module's text.
//!
//! # Why nothing faster than a grace period makes it certain
//!
//! Two times must be kept apart. *Exposure*: from the publication on, no unmap that begins is lazy,
//! and what was queued before is invalidated by the timer, within its time (10 ms), as without us
//! (I2). So a switch leaves nothing open for longer than the queue itself does, however long it
//! takes; a flush of our own right after the publication would only do what the timer is about to
//! do. *Certainty*: who has sampled *queued* may be kept from the ring for as long as the scheduler
//! likes. Nothing says who that is: the sample is in a register or on a stack, the kernel's own
//! code takes it, and what the module could count, flag or lock begins at the entry that the
//! straggler may have passed already. What is left is to see every task leave:
//!
//! * An interrupt to each processor, or a stop of the machine, sees what runs, and not who was
//!   preempted. That is RCU's part of the wait.
//! * To look for the unmap on every task's stack needs each task to stand still, and an unwinder
//!   that says when it errs, of functions that are static or inlined. Live patching does that: it
//!   tries again, each second, until no stack is unreliable, and has no bound. And the kernel
//!   exports the parts of it on x86 alone.
//! * `rcu_tasks_trace`, or SRCU, only know readers that announce themselves.
//! * To flush until the rings stay empty for a while says nothing of who has not come to them yet.
//! * To expedite: RCU's part, and what tasks-RCU itself waits of RCU, could be shortened at the
//!   price of interrupts to each processor. The larger part could not: while there is a task to
//!   wait for, tasks-RCU looks a tenth of a second later, then at slowly growing intervals, and it
//!   rests as long between two grace periods (`init_fract` and `gp_sleep` in `kernel/rcu/tasks.h`,
//!   which no parameter changes).
//!
//! So the writer waits for one of our grace periods, and for no more: the rest comes behind its
//! back ([`Machine::strict_from_here`]).

/// The steps, as the kernel provides them. All of them are infallible: what can fail (allocation,
/// checks) has been done when the machine is made, before the first visible change.
pub(crate) trait Machine {
    /// Makes every new unmap of the domain strict, whatever mode it sampled: publishes page-table
    /// operations whose unmap entry clears `gather->queued` before it touches a page table entry.
    ///
    /// Must be a release: who sees the new operations sees them complete.
    fn publish_strict_entry(&mut self);

    /// Waits until every task that was anywhere in an unmap when the call began has left it.
    ///
    /// Must cover preempted tasks (tasks-RCU) as well as sections that run with preemption,
    /// bottom halves or interrupts off, on idle CPUs too (RCU). Must be a full barrier.
    fn wait_for_readers(&mut self);

    /// Waits until nobody holds the lock of a ring or sleeps for it. Need not order anything: the
    /// final flush takes these locks.
    ///
    /// Only where spin locks sleep (`PREEMPT_RT`) is there somebody to wait for: to tasks-RCU, a
    /// task that sleeps for a lock has left the unmap, though it will be back at the ring.
    fn wait_for_ring_locks(&mut self);

    /// Ends the flush timer for good: it is not running when this returns and cannot be armed.
    fn shut_down_timer(&mut self);

    /// Invalidates the whole IOTLB of the domain, then frees every IOVA in its rings. Returns how
    /// many entries there were.
    fn flush_and_drain(&mut self) -> u64;

    /// The domain is strict from here on, and the final flush covered so many entries of the flush
    /// queue. The first moment at which success may be reported, and the writer let go.
    fn strict_from_here(&mut self, drained: u64);

    /// Makes new unmaps sample strict by themselves (`fq_domain = NULL`).
    fn stop_queueing(&mut self);

    /// Puts the original page-table operations back. Must be a release.
    fn restore_entry(&mut self);

    /// Frees the rings, which nobody can reach, and forgets them.
    fn free_rings(&mut self);

    /// Makes the domain's type read `DMA`.
    fn label_strict(&mut self);
}

/// What is left of a tighten when it is done: a strict entry that no domain has any more.
pub(crate) trait Remnant {
    /// As [`Machine::wait_for_readers`].
    fn wait_for_readers(&mut self);

    /// Frees the memory of the strict entry, if it is not kept.
    fn free_strict_entry(&mut self);
}

/// Makes a lazy domain strict while its devices run. [`finish`] is to follow.
///
/// The caller holds the group's mutex from before the checks that made `machine` until after
/// this returns: a switch cannot race with another, nor with a change of the domain. Who reads the
/// type takes that mutex too, so it reads `DMA` to whoever was told that the domain is strict.
///
/// Upstream's relax is the other direction and needs no protocol of ours: it builds fresh rings
/// and publishes `fq_domain` behind a write barrier, and a straggler that sampled strict merely
/// invalidates once more than it had to.
pub(crate) fn tighten<M: Machine>(machine: &mut M) {
    // New unmaps are strict; old ones may still be on their way to the queue.
    machine.publish_strict_entry();
    machine.wait_for_readers();
    // Of those who had sampled, only who went to sleep for a ring's lock is left, and sleeps
    // there or holds it. No other lock on the way from the sample to the ring can sleep.
    machine.wait_for_ring_locks();
    // I1: the queue has no more producers. I2: timer and rings served them to the end. Who has
    // just let go of a ring may still look for the timer, which the next wait covers.

    // The timer must not run beside the flush below: both walk the rings, and the timer would
    // look at `fq_domain` after it is gone.
    machine.shut_down_timer();
    let drained = machine.flush_and_drain();
    // I3: everything unmapped lazily before I1 has now been invalidated, and since then all
    // unmaps did it themselves.
    machine.strict_from_here(drained);

    // Only the sample is still stale. The strict entry must stay until the last *queued* sample
    // has been through it, or that task would queue into rings that are about to be freed.
    machine.stop_queueing();
    machine.wait_for_readers();
    // I4.

    machine.restore_entry();
    machine.free_rings();
    machine.label_strict();
}

/// Ends what [`tighten`] began. The caller holds nothing: the domain has its own entry again, and
/// may be relaxed, tightened with another strict entry, or freed meanwhile.
pub(crate) fn finish<R: Remnant>(remnant: &mut R) {
    // Somebody may have loaded the strict entry just before the original one was restored.
    remnant.wait_for_readers();
    // I5.
    remnant.free_strict_entry();
}

/// The steps of who switches for a writer, as the kernel provides them. The writer waits for its
/// answer, and others of the same group for their turn.
pub(crate) trait Service {
    /// Takes the group's mutex and a reference of the group, makes the switch, and lets go of the
    /// mutex. In the middle of a switch the writer gets its answer.
    fn switch(&mut self);

    /// Answers, if there was nothing to switch.
    fn answer(&mut self);

    /// Lets go of the turn.
    fn end_turn(&mut self);

    /// Puts the reference. If it is the last one, this waits for everybody who writes the group's
    /// type.
    fn put_group(&mut self);

    /// [`finish`].
    fn finish(&mut self);
}

/// Switches for a writer, and ends what that leaves.
pub(crate) fn serve<S: Service>(service: &mut S) {
    service.switch();
    service.answer();
    // Not before the mutex is free: the next writer may go to the kernel's own store (see `leave`).
    service.end_turn();
    // A writer that this waits for may itself wait for an answer, or for its turn.
    service.put_group();
    service.finish();
}

/// The steps of the module's exit, as the kernel provides them.
pub(crate) trait Exit {
    /// From here on no writer begins a switch.
    fn stop_switching(&mut self);

    /// Waits until every switch that had begun is done, but for its [`finish`].
    fn wait_for_switches(&mut self);

    /// Waits until everybody who switches for a writer is done with that too, and has left the
    /// module.
    fn wait_for_workers(&mut self);

    /// Puts the kernel's own `store` back.
    fn restore_store(&mut self);

    /// As [`Machine::wait_for_readers`].
    fn wait_for_readers(&mut self);

    /// Waits until every writer that has counted itself in has counted itself out. Must be an
    /// acquire.
    fn wait_for_writers(&mut self);
}

/// Leaves the `type` attribute: when this returns, nobody is in the module's text, nor will be.
///
/// No switch may be under way when writers go straight to the kernel's own store again. That one
/// looks at the group's domain once before it waits for the group's mutex; while a switch holds
/// the mutex, for seconds, the last device of the group may come to wait for it too, and leave
/// first.
///
/// A writer sleeps while it is in `store`, and to tasks-RCU a task that sleeps is nowhere. So
/// writers are counted, and tasks-RCU only covers them before they are counted and after.
pub(crate) fn leave<E: Exit>(exit: &mut E) {
    exit.stop_switching();
    exit.wait_for_switches();
    // Nobody sends a worker any more.
    exit.wait_for_workers();
    exit.restore_store();
    // Who has loaded our pointer has counted itself in by now, or has left.
    exit.wait_for_readers();
    exit.wait_for_writers();
    // The last one may be on its way from the decrement to its return.
    exit.wait_for_readers();
}

// SPDX-License-Identifier: GPL-2.0-only
//! A DMA domain: the kernel's side of `drivers/iommu/dma-iommu.c`, the redirection of `kmod/src/strict_ops.rs`, and
//! [`Machine`] on both.
//!
//! Every pointer and flag that tasks share is an atomic of loom's with the ordering the kernel gives it, so that each
//! access is a point where anything else may happen. An address dependency, which loom does not know, is an acquire.

use loom::sync::atomic::{fence, AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::ghost::{check, property, Ghost};
use crate::grace::{wait_for, Reader, SleepingLock};
use crate::protocol::{Machine, Remnant};

/// The ring holds one entry: the second unmap finds it full and has to flush.
const RING: usize = 1;

/// What `pt_iommu::ops`, or `domain->ops`, points to: this, or one more than the number of a strict copy.
const ORIGINAL: usize = 0;
/// As many strict copies as a model makes of one domain.
const COPIES: usize = 2;

struct Entry {
    page: usize,
    counter: usize,
}

#[derive(Default)]
struct Timer {
    pending: bool,
    running: bool,
    shut_down: bool,
    done: bool,
}

/// The domain, its cookie and the group around it.
pub struct Domain {
    ops: AtomicUsize,
    /// How often an unmap calls the entry that it found once: on the generic page table once, elsewhere once for each block
    /// (`__iommu_unmap_domain_pgtbl()`).
    blocks: usize,
    /// Whether each strict copy has been filled in.
    copies_filled: [AtomicBool; COPIES],
    fq_domain: AtomicBool,
    /// Whether the rings have been initialised.
    rings_filled: AtomicBool,
    ring: Mutex<Vec<Entry>>,
    /// The ring's lock, where such locks sleep; otherwise the mutex around the ring is enough of one.
    ring_lock: Option<SleepingLock>,
    flush_started: AtomicUsize,
    flush_finished: AtomicUsize,
    timer_on: AtomicBool,
    timer: Mutex<Timer>,
    timer_changed: Condvar,
    /// One for each task that unmaps.
    pub readers: Vec<Reader>,
    /// The group's mutex, with the type it reads under it: whether that is `DMA`.
    pub group: Mutex<bool>,
    pub ghost: Ghost,
}

impl Domain {
    /// A lazy domain with all pages mapped, for so many tasks that unmap.
    pub fn lazy(readers: usize) -> Self {
        Self {
            ops: AtomicUsize::new(ORIGINAL),
            blocks: 1,
            copies_filled: std::array::from_fn(|_| AtomicBool::new(false)),
            fq_domain: AtomicBool::new(true),
            rings_filled: AtomicBool::new(true),
            ring: Mutex::new(Vec::new()),
            ring_lock: None,
            flush_started: AtomicUsize::new(0),
            flush_finished: AtomicUsize::new(0),
            timer_on: AtomicBool::new(false),
            timer: Mutex::new(Timer::default()),
            timer_changed: Condvar::new(),
            readers: (0..readers).map(|_| Reader::new()).collect(),
            group: Mutex::new(false),
            ghost: Ghost::lazy(),
        }
    }

    /// The same, on a `PREEMPT_RT` kernel.
    pub fn lazy_and_preemptible(readers: usize) -> Self {
        Self {
            ring_lock: Some(SleepingLock::new()),
            ..Self::lazy(readers)
        }
    }

    /// The same, where an unmap finds its entry in `domain->ops`, and calls it for each block.
    pub fn lazy_in_blocks(readers: usize) -> Self {
        Self {
            blocks: 2,
            ..Self::lazy(readers)
        }
    }

    /// Behind the strict entry and inside a ring an unmap takes locks of others, which may sleep too.
    fn sleep_where_locks_do(&self, task: usize) {
        if self.ring_lock.is_some() {
            self.readers[task].asleep(|| ());
        }
    }

    fn lock_ring(&self, reader: Option<&Reader>) -> Ring<'_> {
        let lock = self.ring_lock.as_ref();
        if let Some(lock) = lock {
            lock.lock(reader);
        }
        let entries = Some(self.ring.lock().unwrap());
        Ring { entries, lock }
    }

    /// `__iommu_dma_unmap()`: samples, unmaps, then invalidates or queues. `task` is the reader.
    pub fn unmap(&self, task: usize, page: usize) {
        self.readers[task].read(|| {
            self.ghost.use_domain();
            let sample = self.fq_domain.load(Ordering::Relaxed);
            let queued = self.unmap_range(page, sample);
            if queued {
                self.queue_iova(task, page);
            } else {
                self.sleep_where_locks_do(task);
                self.ghost.invalidate(page);
                self.ghost.give_back(page);
            }
            self.ghost.unmap_returns(page);
        });
    }

    /// `pt_iommu::ops->unmap_range()` or `domain->ops->unmap_pages()`, as it is or as the strict entry. Returns
    /// `gather->queued`.
    fn unmap_range(&self, page: usize, mut queued: bool) -> bool {
        let found = self.ops.load(Ordering::Acquire);
        for _ in 0..self.blocks {
            if found != ORIGINAL {
                self.read_copy(found);
                queued = false;
                // The strict entry looks for the original one, wherever the pointer points by now.
                self.read_copy(self.ops.load(Ordering::Acquire));
            }
            self.ghost.clear(page);
        }
        queued
    }

    fn read_copy(&self, found: usize) {
        let Some(copy) = found.checked_sub(1) else {
            return;
        };
        let filled = self.copies_filled[copy].load(Ordering::Relaxed);
        self.ghost.use_entry(copy);
        check(filled, property::HALF);
    }

    fn queue_iova(&self, task: usize, page: usize) {
        fence(Ordering::SeqCst);
        let filled = self.rings_filled.load(Ordering::Relaxed);
        self.ghost.use_rings();
        check(filled, property::HALF);
        {
            let mut ring = self.lock_ring(Some(&self.readers[task]));
            let ring = ring.entries();
            self.ghost.use_rings();
            self.sleep_where_locks_do(task);
            self.ghost.use_rings();
            self.free_flushed(ring);
            if ring.len() == RING {
                self.flush_iotlb();
                self.free_flushed(ring);
            }
            let counter = self.flush_started.load(Ordering::Relaxed);
            self.ghost.queue();
            ring.push(Entry { page, counter });
        }
        if !self.timer_on.load(Ordering::Relaxed) && !self.timer_on.swap(true, Ordering::AcqRel) {
            let mut timer = self.timer.lock().unwrap();
            // A timer that has been shut down stays so.
            if timer.shut_down {
                self.ghost.timer_is_gone();
            } else {
                timer.pending = true;
                self.timer_changed.notify_all();
            }
        }
    }

    /// `fq_flush_iotlb()`.
    fn flush_iotlb(&self) {
        self.flush_started.fetch_add(1, Ordering::AcqRel);
        // The driver's, before it tells the IOMMU; see litmus/clear-against-flush.litmus.
        fence(Ordering::SeqCst);
        let domain = self.fq_domain.load(Ordering::Relaxed);
        check(domain, property::NULL);
        self.ghost.invalidate_all();
        self.flush_finished.fetch_add(1, Ordering::AcqRel);
    }

    /// `fq_ring_free_locked()`.
    fn free_flushed(&self, ring: &mut Vec<Entry>) {
        let finished = self.flush_finished.load(Ordering::Relaxed);
        ring.retain(|entry| {
            let flushed = entry.counter < finished;
            if flushed {
                self.ghost.give_back(entry.page);
            }
            !flushed
        });
    }

    /// `fq_flush_timeout()`.
    fn flush_timeout(&self) {
        self.timer_on.store(false, Ordering::Relaxed);
        self.flush_iotlb();
        self.ghost.use_rings();
        let mut ring = self.lock_ring(None);
        self.ghost.use_rings();
        self.free_flushed(ring.entries());
    }

    /// The timer wheel: runs the timer when it is pending, until [`Domain::stop_timers`].
    pub fn timers(&self) {
        let mut timer = self.timer.lock().unwrap();
        while !timer.done {
            if timer.pending {
                timer.pending = false;
                timer.running = true;
                drop(timer);
                self.flush_timeout();
                timer = self.timer.lock().unwrap();
                timer.running = false;
                self.timer_changed.notify_all();
            } else {
                timer = self.timer_changed.wait(timer).unwrap();
            }
        }
    }

    /// Ends [`Domain::timers`] when nothing is pending any more: the model is over.
    pub fn stop_timers(&self) {
        let mut timer = self.timer.lock().unwrap();
        while timer.pending || timer.running {
            timer = self.timer_changed.wait(timer).unwrap();
        }
        timer.done = true;
        self.timer_changed.notify_all();
    }

    /// Upstream's relax: `iommu_dma_init_fq()`, then the label. The caller holds the group's mutex.
    pub fn relax(&self) {
        check(self.ring.lock().unwrap().is_empty(), property::LEFT);
        self.ghost.set_rings(true);
        self.ghost.say_lazy();
        self.rings_filled.store(true, Ordering::Relaxed);
        self.flush_started.store(0, Ordering::Relaxed);
        self.flush_finished.store(0, Ordering::Relaxed);
        self.timer_on.store(false, Ordering::Relaxed);
        *self.timer.lock().unwrap() = Timer::default();
        // smp_wmb()
        fence(Ordering::Release);
        self.fq_domain.store(true, Ordering::Relaxed);
    }

    /// The last device has gone: nobody unmaps any more. The caller holds the group's mutex.
    pub fn tear_down(&self) {
        self.shut_down();
        // iommu_put_dma_cookie() frees what is queued without another look at the IOTLB: the domain goes with it.
        self.ring.lock().unwrap().clear();
        self.ghost.set_rings(false);
        self.ghost.free_domain();
    }

    /// `timer_shutdown_sync()`.
    fn shut_down(&self) {
        let mut timer = self.timer.lock().unwrap();
        timer.shut_down = true;
        timer.pending = false;
        while timer.running {
            timer = self.timer_changed.wait(timer).unwrap();
        }
        self.timer_changed.notify_all();
    }

    /// What must be so when a domain has been tightened and all its pages were unmapped.
    pub fn clean_and_strict(&self, pages: usize) {
        check(self.ghost.is_strict(), property::STRICT);
        check(*self.group.lock().unwrap(), property::LABEL);
        check(self.ops.load(Ordering::Relaxed) == ORIGINAL, property::COST);
        check(!self.fq_domain.load(Ordering::Relaxed), property::COST);
        self.ghost.nothing_left(pages);
    }
}

/// The ring's lock is held.
struct Ring<'a> {
    /// Only `None` while this is dropped.
    entries: Option<MutexGuard<'a, Vec<Entry>>>,
    lock: Option<&'a SleepingLock>,
}

impl Ring<'_> {
    fn entries(&mut self) -> &mut Vec<Entry> {
        self.entries.as_mut().unwrap()
    }
}

impl Drop for Ring<'_> {
    fn drop(&mut self) {
        self.entries = None;
        if let Some(lock) = self.lock {
            lock.unlock();
        }
    }
}

/// A switch of a domain, as `kmod/src/tighten.rs` makes it. `label` is what the group's mutex guards.
pub struct Switch<'d, 'l> {
    domain: &'d Domain,
    label: &'l mut bool,
    copy: usize,
}

impl<'d, 'l> Switch<'d, 'l> {
    /// Fills in the strict copy.
    pub fn prepare(domain: &'d Domain, label: &'l mut bool) -> Self {
        let copy = domain.ghost.new_entry();
        domain.copies_filled[copy].store(true, Ordering::Relaxed);
        Self {
            domain,
            label,
            copy,
        }
    }

    /// What is left of it.
    pub fn leave(self) -> Leftover<'d> {
        Leftover::of(self.domain, self.copy)
    }
}

/// The strict copy of a switch that is done.
pub struct Leftover<'a> {
    domain: &'a Domain,
    copy: usize,
}

impl<'a> Leftover<'a> {
    pub fn of(domain: &'a Domain, copy: usize) -> Self {
        Self { domain, copy }
    }

    pub fn copy(&self) -> usize {
        self.copy
    }
}

impl Remnant for Leftover<'_> {
    fn wait_for_readers(&mut self) {
        wait_for(&self.domain.readers);
    }

    fn free_strict_entry(&mut self) {
        self.domain.ghost.free_entry(self.copy);
        self.domain.copies_filled[self.copy].store(false, Ordering::Relaxed);
    }
}

impl Machine for Switch<'_, '_> {
    fn publish_strict_entry(&mut self) {
        self.domain.ops.store(self.copy + 1, Ordering::Release);
    }

    fn wait_for_readers(&mut self) {
        wait_for(&self.domain.readers);
    }

    fn wait_for_ring_locks(&mut self) {
        if let Some(lock) = &self.domain.ring_lock {
            lock.wait_until_free();
            self.domain.ghost.rings_are_quiet();
        }
    }

    fn shut_down_timer(&mut self) {
        self.domain.shut_down();
    }

    fn flush_and_drain(&mut self) -> u64 {
        let drained = self.domain.ring.lock().unwrap().len();
        {
            let timer = self.domain.timer.lock().unwrap();
            check(!timer.running && !timer.pending, property::WALK);
        }
        self.domain.ghost.flush_for_the_last_time();
        self.domain.flush_timeout();
        drained as u64
    }

    fn strict_from_here(&mut self, _drained: u64) {
        self.domain.ghost.say_strict();
    }

    fn stop_queueing(&mut self) {
        self.domain.fq_domain.store(false, Ordering::Relaxed);
    }

    fn restore_entry(&mut self) {
        self.domain.ops.store(ORIGINAL, Ordering::Release);
    }

    fn free_rings(&mut self) {
        let empty = self.domain.ring.lock().unwrap().is_empty();
        check(empty, property::LEAK);
        self.domain.ghost.set_rings(false);
        self.domain.rings_filled.store(false, Ordering::Relaxed);
    }

    fn label_strict(&mut self) {
        check(self.domain.ghost.is_strict(), property::LABEL);
        *self.label = true;
    }
}

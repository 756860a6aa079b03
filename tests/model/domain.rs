// SPDX-License-Identifier: GPL-2.0-only
//! A DMA domain as the kernel has it: `drivers/iommu/dma-iommu.c`, and of `iommu.c` what changes a group's domain.
//!
//! Every pointer and flag that tasks share is an atomic of loom's with the ordering the kernel gives it, so that each
//! access is a point where anything else may happen. An address dependency, which loom does not know, is an acquire.

use loom::sync::atomic::{fence, AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex, MutexGuard};

use crate::ghost::{check, note, property, Found, Ghost, Giver};
use crate::grace::{Reader, SleepingLock};
use crate::mutation::Mutation;
use crate::protocol::Label;
use crate::switch::State;

/// Each has a ring.
pub const CPUS: usize = 2;
/// As many strict copies as a model makes, as many sets of rings.
const COPIES: usize = 3;
const SETS: usize = 3;

/// What `pt_iommu::ops`, or `domain->ops`, points to: this, or one more than the number of a strict copy.
pub const ORIGINAL: usize = 0;
/// What `percpu_fq` points to: this, or one more than the number of a set of rings.
const NOTHING: usize = 0;

/// `struct iova_fq_entry`.
#[derive(Clone, Default)]
pub struct Entry {
    pub page: usize,
    pub pages: usize,
    counter: usize,
    /// The pages of the page table that mapped these pages. `None` where the list's head is zeroed.
    pub freelist: Option<Vec<usize>>,
}

/// `struct iova_fq`.
#[derive(Default)]
pub struct Ring {
    /// Whether the memory is there.
    there: bool,
    pub head: usize,
    pub tail: usize,
    pub mask: usize,
    pub entries: Vec<Entry>,
}

impl Ring {
    /// `iommu_dma_init_one_fq()`.
    fn new(mask: usize) -> Self {
        let entry = Entry {
            freelist: Some(Vec::new()),
            ..Entry::default()
        };
        Self {
            there: true,
            head: 0,
            tail: 0,
            mask,
            entries: vec![entry; mask + 1],
        }
    }

    fn is_full(&self) -> bool {
        (self.tail + 1) & self.mask == self.head
    }

    fn entry(&mut self, index: usize) -> &mut Entry {
        check(index < self.entries.len(), property::BEYOND);
        &mut self.entries[index]
    }

    /// The entries that a loop from `head` to `tail` sees.
    pub fn queued(&mut self) -> Vec<Entry> {
        let mut queued = Vec::new();
        let mut index = self.head;
        while index != self.tail {
            queued.push(self.entry(index).clone());
            index = (index + 1) & self.mask;
        }
        queued
    }
}

/// One ring for each CPU, and their locks where such locks sleep; otherwise the mutex around a ring is enough of one.
struct Rings([(Mutex<Ring>, Option<SleepingLock>); CPUS]);

/// `struct timer_list`.
#[derive(Default)]
pub struct Timer {
    pending: bool,
    running: bool,
    /// It has no function: nobody can arm it.
    pub shut_down: bool,
    done: bool,
}

/// What the group's mutex guards.
pub struct Group {
    /// Whether there is a default domain.
    pub domain: bool,
    pub label: Label,
    /// What the module knows of the domain.
    pub state: Option<State>,
}

/// How large an unmap is.
#[derive(Clone, Copy, PartialEq)]
pub enum Size {
    Page,
    /// Nothing: the unmap entry is not called (`__iommu_unmap_domain_pgtbl()`).
    Zero,
}

/// How domains differ.
#[derive(Clone, Copy)]
pub struct Kind {
    /// The rings' `mod_mask`.
    pub mask: usize,
    /// Whether spin locks sleep.
    pub realtime: bool,
    /// How often an unmap calls the entry that it found once: on the generic page table once, elsewhere once for each block
    /// (`__iommu_unmap_domain_pgtbl()`).
    pub blocks: usize,
    /// Whether the strict copy is kept for ever, and used for the next switch, as elsewhere than on the generic page table.
    pub kept: bool,
}

/// The generic page table. A ring holds one entry: the second unmap finds it full and has to flush.
pub const GENERIC: Kind = Kind {
    mask: 1,
    realtime: false,
    blocks: 1,
    kept: false,
};
/// A table of another kind.
pub const KEPT: Kind = Kind {
    kept: true,
    ..GENERIC
};
pub const IN_BLOCKS: Kind = Kind { blocks: 2, ..KEPT };
/// Where only the generic page table is switched.
pub const PREEMPT_RT: Kind = Kind {
    realtime: true,
    ..GENERIC
};

/// The domain, its cookie and the group around it.
pub struct Domain {
    pub kind: Kind,
    pub mutation: Mutation,
    pub ops: AtomicUsize,
    /// Whether each strict copy is there and has been filled in.
    pub copies: [AtomicBool; COPIES],
    /// Where a page of the page table goes, and the IOTLB: every change and every invalidation comes by.
    table: AtomicUsize,
    pub fq_domain: AtomicBool,
    percpu_fq: AtomicUsize,
    sets: [Rings; SETS],
    pub flush_started: AtomicUsize,
    flush_finished: AtomicUsize,
    timer_on: AtomicBool,
    pub timer: Mutex<Timer>,
    timer_changed: Condvar,
    /// One for each task that unmaps.
    pub readers: Vec<Reader>,
    pub group: Mutex<Group>,
    pub ghost: Ghost,
}

impl Domain {
    /// A lazy domain with all pages mapped, for so many tasks that unmap.
    pub fn lazy(kind: Kind, readers: usize, mutation: Mutation) -> Self {
        let group = Group {
            domain: true,
            label: Label::Lazy,
            state: None,
        };
        let rings = |set: usize| {
            let ring = || match set {
                0 => Ring::new(kind.mask),
                _ => Ring::default(),
            };
            let lock = || kind.realtime.then(SleepingLock::new);
            Rings(std::array::from_fn(|_| (Mutex::new(ring()), lock())))
        };
        Self {
            kind,
            mutation,
            ops: AtomicUsize::new(ORIGINAL),
            copies: std::array::from_fn(|_| AtomicBool::new(false)),
            table: AtomicUsize::new(0),
            fq_domain: AtomicBool::new(true),
            percpu_fq: AtomicUsize::new(1),
            sets: std::array::from_fn(rings),
            flush_started: AtomicUsize::new(0),
            flush_finished: AtomicUsize::new(0),
            timer_on: AtomicBool::new(false),
            timer: Mutex::new(Timer::default()),
            timer_changed: Condvar::new(),
            readers: (0..readers).map(|_| Reader::new()).collect(),
            group: Mutex::new(group),
            ghost: Ghost::lazy(),
        }
    }

    /// Inside a ring an unmap takes locks of others, which may sleep too, and so it does behind the strict entry.
    fn sleep_where_locks_do(&self, task: usize) {
        if self.kind.realtime {
            self.readers[task].asleep(|| ());
        }
    }

    /// The set of rings that `percpu_fq` points to.
    pub fn rings(&self) -> Option<usize> {
        self.percpu_fq.load(Ordering::Relaxed).checked_sub(1)
    }

    pub fn forget_rings(&self) {
        self.percpu_fq.store(NOTHING, Ordering::Relaxed);
    }

    pub fn lock_ring(&self, set: usize, cpu: usize, reader: Option<&Reader>) -> Locked<'_> {
        let (ring, lock) = &self.sets[set].0[cpu];
        if let Some(lock) = lock {
            lock.lock(reader);
        }
        let ring = Some(ring.lock().unwrap());
        let mut locked = Locked {
            ring,
            lock: lock.as_ref(),
        };
        let there = locked.ring().there;
        check(there, property::RINGS);
        locked
    }

    /// The lock of each ring, where locks sleep.
    pub fn ring_locks(&self, set: usize) -> impl Iterator<Item = &SleepingLock> {
        let rings = self.sets[set].0.iter();
        rings.filter_map(|(_, lock)| lock.as_ref())
    }

    /// `__iommu_dma_unmap()`: samples, unmaps, then invalidates or queues. `task` is the reader.
    pub fn unmap(&self, task: usize, cpu: usize, page: usize) {
        self.unmap_of(Size::Page, task, cpu, page);
    }

    /// The same, of no bytes.
    pub fn unmap_nothing(&self, task: usize, cpu: usize) {
        self.unmap_of(Size::Zero, task, cpu, 0);
    }

    fn unmap_of(&self, size: Size, task: usize, cpu: usize, page: usize) {
        self.readers[task].read(|| {
            self.ghost.use_domain();
            let sample = self.fq_domain.load(Ordering::Relaxed);
            let (queued, found) = match size {
                Size::Page => self.unmap_range(page, sample),
                Size::Zero => (sample, self.ghost.find_entry(false)),
            };
            if queued {
                self.queue_iova(task, cpu, (size, page), found);
            } else {
                self.sleep_where_locks_do(task);
                if size == Size::Page {
                    self.table.fetch_add(1, Ordering::AcqRel);
                    self.ghost.invalidate(page);
                    self.ghost.free_table(page);
                }
                let pages = usize::from(size == Size::Page);
                self.ghost.give_back(page, pages, Giver::Kernel);
            }
            if size == Size::Page {
                self.ghost.unmap_returns(page);
            }
        });
    }

    /// `pt_iommu::ops->unmap_range()` or `domain->ops->unmap_pages()`, as it is or as the strict entry. Returns
    /// `gather->queued`.
    fn unmap_range(&self, page: usize, mut queued: bool) -> (bool, Found) {
        let found = self.ops.load(Ordering::Acquire);
        let entry = self.ghost.find_entry(found == ORIGINAL);
        for _ in 0..self.kind.blocks {
            if found != ORIGINAL {
                self.use_copy(found);
                queued = false;
                // The strict entry looks for the original one, wherever the pointer points by now.
                self.use_copy(self.ops.load(Ordering::Acquire));
            }
            self.table.fetch_add(1, Ordering::AcqRel);
            self.ghost.clear(page);
        }
        if found != ORIGINAL {
            // The return from the strict entry.
            self.use_copy(found);
        }
        (queued, entry)
    }

    pub fn use_copy(&self, found: usize) {
        let Some(copy) = found.checked_sub(1) else {
            return;
        };
        let filled = self.copies[copy].load(Ordering::Relaxed);
        self.ghost.use_entry(copy);
        check(filled, property::HALF);
    }

    fn queue_iova(&self, task: usize, cpu: usize, (size, page): (Size, usize), found: Found) {
        fence(Ordering::SeqCst);
        let Some(set) = self.rings() else {
            return check(false, property::RINGS);
        };
        {
            let mut locked = self.lock_ring(set, cpu, Some(&self.readers[task]));
            self.sleep_where_locks_do(task);
            let ring = locked.ring();
            self.free_flushed(ring);
            if ring.is_full() {
                if ring.mask == 0 {
                    self.ghost.find_armed(found);
                }
                self.flush_iotlb();
                self.free_flushed(ring);
            }
            let counter = self.flush_started.load(Ordering::Relaxed);
            let (index, armed) = (ring.tail, ring.mask == 0);
            let overflows = ring.is_full() && !armed;
            ring.tail = (index + 1) & ring.mask;
            let entry = ring.entry(index);
            if armed && entry.pages != 0 {
                self.ghost.give_up(entry.page);
            }
            note(|| {
                format!(
                    "queue {page} at {index} of CPU {cpu}, mask {}",
                    usize::from(!armed)
                )
            });
            entry.page = page;
            entry.pages = usize::from(size == Size::Page);
            entry.counter = counter;
            match &mut entry.freelist {
                Some(list) if size == Size::Page => list.push(page),
                Some(_) => {}
                None => check(false, property::LINKS),
            }
            // A flush that others have begun and not finished keeps the ring full. It looks empty now.
            if overflows {
                let lost = ring.entries.iter().filter(|entry| entry.pages != 0);
                lost.for_each(|entry| self.ghost.lose(entry.page));
            }
        }
        if !self.timer_on.load(Ordering::Relaxed) && !self.timer_on.swap(true, Ordering::AcqRel) {
            let mut timer = self.timer.lock().unwrap();
            // A timer that has been shut down stays so.
            if !timer.shut_down {
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
        self.table.fetch_add(1, Ordering::AcqRel);
        self.ghost.invalidate_all();
        self.flush_finished.fetch_add(1, Ordering::AcqRel);
    }

    /// `fq_ring_free_locked()`.
    fn free_flushed(&self, ring: &mut Ring) {
        let finished = self.flush_finished.load(Ordering::Relaxed);
        while ring.head != ring.tail {
            let entry = ring.entry(ring.head);
            if entry.counter >= finished {
                break;
            }
            let pages = entry.freelist.replace(Vec::new());
            self.ghost.give_back(entry.page, entry.pages, Giver::Kernel);
            pages
                .into_iter()
                .flatten()
                .for_each(|page| self.ghost.free_table(page));
            ring.head = (ring.head + 1) & ring.mask;
        }
    }

    /// `fq_flush_timeout()`.
    pub fn flush_timeout(&self) {
        self.timer_on.store(false, Ordering::Relaxed);
        self.flush_iotlb();
        let Some(set) = self.rings() else {
            return check(false, property::RINGS);
        };
        for cpu in 0..CPUS {
            let mut ring = self.lock_ring(set, cpu, None);
            self.free_flushed(ring.ring());
        }
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

    /// Runs the timer here if it is pending: the model is over and has no task for timers.
    fn run_timer(&self) {
        let mut timer = self.timer.lock().unwrap();
        if std::mem::take(&mut timer.pending) {
            drop(timer);
            self.flush_timeout();
        }
    }

    /// `timer_shutdown_sync()`, or `timer_delete_sync()` where nobody arms it again.
    pub fn shut_down(&self) {
        let mut timer = self.timer.lock().unwrap();
        timer.shut_down = true;
        timer.pending = false;
        while timer.running {
            timer = self.timer_changed.wait(timer).unwrap();
        }
        self.timer_changed.notify_all();
    }

    /// Nobody arms the timer any more, and it does not run.
    pub fn keep_timer_off(&self) {
        self.timer_on.store(true, Ordering::Relaxed);
        let mut timer = self.timer.lock().unwrap();
        timer.pending = false;
        while timer.running {
            timer = self.timer_changed.wait(timer).unwrap();
        }
        self.timer_changed.notify_all();
        drop(timer);
        // It clears this when it runs.
        self.timer_on.store(true, Ordering::Relaxed);
    }

    /// The timer can be armed, and is not.
    pub fn allow_timer(&self) {
        self.timer.lock().unwrap().shut_down = false;
        self.timer_on.store(false, Ordering::Relaxed);
    }

    /// The kernel's own store, with `DMA-FQ`.
    pub fn store_lazy(&self) {
        let mut group = self.group.lock().unwrap();
        if !group.domain || group.label != Label::Strict {
            return;
        }
        self.ghost.say_lazy();
        self.init_fq();
        group.label = Label::Lazy;
    }

    /// `iommu_dma_init_fq()`.
    fn init_fq(&self) {
        if self.fq_domain.load(Ordering::Relaxed) {
            return;
        }
        self.flush_started.store(0, Ordering::Relaxed);
        self.flush_finished.store(0, Ordering::Relaxed);
        self.percpu_fq
            .store(self.new_rings() + 1, Ordering::Relaxed);
        self.timer.lock().unwrap().shut_down = false;
        self.timer_on.store(false, Ordering::Relaxed);
        // smp_wmb()
        fence(Ordering::Release);
        self.fq_domain.store(true, Ordering::Relaxed);
    }

    /// Which set it is.
    fn new_rings(&self) -> usize {
        let fresh = |set: &usize| self.sets[*set].0[0].0.lock().unwrap().entries.is_empty();
        let set = (0..SETS).find(fresh).unwrap();
        for (ring, _) in &self.sets[set].0 {
            *ring.lock().unwrap() = Ring::new(self.kind.mask);
        }
        set
    }

    /// `free_percpu()`.
    pub fn free_rings(&self, set: usize) {
        for (ring, _) in &self.sets[set].0 {
            let mut ring = ring.lock().unwrap();
            check(ring.there, property::RINGS);
            ring.there = false;
            let full = |entry: &Entry| entry.pages != 0;
            check(!ring.queued().iter().any(full), property::LEAK);
        }
    }

    /// The last device has gone: nobody unmaps any more. The caller holds the group's mutex.
    pub fn tear_down(&self, group: &mut Group) {
        group.domain = false;
        // iommu_dma_free_fq()
        if self.fq_domain.load(Ordering::Relaxed) {
            self.shut_down();
            let set = self.rings().unwrap();
            for cpu in 0..CPUS {
                // What is queued is freed without another look at the IOTLB: the domain goes with it.
                self.ghost.invalidate_all();
                let mut locked = self.lock_ring(set, cpu, None);
                let ring = locked.ring();
                let queued = ring.queued().into_iter();
                queued
                    .filter_map(|entry| entry.freelist)
                    .flatten()
                    .for_each(|page| self.ghost.free_table(page));
                ring.there = false;
                // The ranges go with the domain, but what no loop sees is lost.
                let lost = |entry: &Entry| entry.freelist.iter().any(|list| !list.is_empty());
                let seen = ring.head != ring.tail;
                check(seen || !ring.entries.iter().any(lost), property::LEAK);
            }
        }
        // The domain's `deinit` is called through the copy.
        self.use_copy(self.ops.load(Ordering::Acquire));
        self.ghost.free_domain();
    }

    /// Another lazy domain at the same address. The caller holds the group's mutex.
    pub fn replace(&self, group: &mut Group) {
        self.tear_down(group);
        self.ghost.replace_domain();
        self.ops.store(ORIGINAL, Ordering::Relaxed);
        self.percpu_fq
            .store(self.new_rings() + 1, Ordering::Relaxed);
        self.allow_timer();
        self.fq_domain.store(true, Ordering::Relaxed);
        group.domain = true;
        group.label = Label::Lazy;
    }

    /// What must be so when nobody does anything any more, and the first pages have been unmapped.
    pub fn ends(&self, pages: usize, label: Label) {
        // The strict entry and the rings stay for ever.
        if self.ghost.is_tripped() {
            return;
        }
        self.run_timer();
        let group = self.group.lock().unwrap();
        check(group.state.is_none(), property::LEFT);
        check(self.kind.kept || self.ghost.no_entries(), property::LEFT);
        let mine = self.rings();
        for (set, rings) in self.sets.iter().enumerate() {
            for (ring, _) in &rings.0 {
                let ring = ring.lock().unwrap();
                let used = group.domain && mine == Some(set);
                check(ring.there == used, property::LEFT);
                check(!used || ring.mask == self.kind.mask, property::COST);
            }
        }
        if !group.domain {
            return;
        }
        check(group.label == label, property::LABEL);
        check(
            self.ghost.is_strict() == (label == Label::Strict),
            property::LABEL,
        );
        check(self.ops.load(Ordering::Relaxed) == ORIGINAL, property::COST);
        let lazy = self.fq_domain.load(Ordering::Relaxed);
        check(lazy == (label == Label::Lazy), property::COST);
        check(lazy == mine.is_some(), property::COST);
        let shut_down = self.timer.lock().unwrap().shut_down;
        check(!lazy || !shut_down, property::COST);
        self.ghost.all_unmapped(pages);
    }
}

/// A ring whose lock is held.
pub struct Locked<'a> {
    /// Only `None` while this is dropped.
    ring: Option<MutexGuard<'a, Ring>>,
    lock: Option<&'a SleepingLock>,
}

impl Locked<'_> {
    pub fn ring(&mut self) -> &mut Ring {
        self.ring.as_mut().unwrap()
    }
}

impl Drop for Locked<'_> {
    fn drop(&mut self) {
        self.ring = None;
        if let Some(lock) = self.lock {
            lock.unlock();
        }
    }
}

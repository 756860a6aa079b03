// SPDX-License-Identifier: GPL-2.0-only

//! The rings of a flush queue (`struct iova_fq` in `drivers/iommu/dma-iommu.c`), and how they are
//! armed. [`crate::protocol`] says what that means.
//!
//! Everything in a ring is read and written with its lock held, by the kernel and here, but for
//! teardown, where nobody else is left, and for a look ahead ([`Ring::has_late_comer`]).

use crate::{
    ffi::{
        free_iova_fast, iommu_live_list_move, iommu_live_lock_is_free,
        iommu_live_next_possible_cpu, iommu_live_per_cpu_ptr, iommu_live_spin_lock,
        iommu_live_spin_unlock, iommu_put_pages_list,
    },
    layout,
    private_structs::{field, Cookie, FlushQueue, IovaDomain, Rings},
};
use core::{marker::PhantomData, mem::MaybeUninit, ptr::NonNull};
use kernel::bindings;
use kernel::sync::atomic::{Atomic, Relaxed};

// `ffi` takes one for the other.
const _: () = {
    use core::mem::size_of;
    assert!(size_of::<bindings::iommu_pages_list>() == size_of::<bindings::list_head>());
};

/// The `mod_mask` of an armed ring.
const ARMED: u32 = 0;

/// One ring.
///
/// # Invariants
///
/// The pointer is a `struct iova_fq` that was made by `iommu_dma_init_fq()` and stays for `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Ring<'a>(NonNull<FlushQueue>, PhantomData<&'a FlushQueue>);

impl Rings {
    /// Calls `visit` with each ring.
    ///
    /// # Safety
    ///
    /// They were made by `iommu_dma_init_fq()` and stay for the call.
    pub(crate) unsafe fn each(self, mut visit: impl FnMut(Ring<'_>)) {
        let mut visit = |ring: *mut FlushQueue| {
            if let Some(ring) = NonNull::new(ring) {
                // INVARIANT: By this function's requirements.
                visit(Ring(ring, PhantomData));
            }
        };
        match self {
            Rings::Single(ring) => visit(ring),
            Rings::PerCpu(rings) => {
                let mut cpu = -1;
                loop {
                    // SAFETY: -1 or a possible CPU.
                    cpu = unsafe { iommu_live_next_possible_cpu(cpu) };
                    if cpu < 0 {
                        return;
                    }
                    // SAFETY: A per-CPU pointer by this function's requirements, and a possible
                    // CPU: there is a ring for each, online or not.
                    visit(unsafe { iommu_live_per_cpu_ptr(rings, cpu) });
                }
            }
        }
    }

    /// Frees them, and the pages of page tables that are in them, also in slots between which
    /// nothing seems to be: a ring that overflowed looks empty (see [`crate::protocol`]).
    ///
    /// # Safety
    ///
    /// They were made by `iommu_dma_init_fq()`, nobody can reach them, they are not armed, and their
    /// ranges have been given back or are of no pages.
    pub(crate) unsafe fn free(self) {
        // SAFETY: By this function's requirements.
        unsafe { self.each(|ring| ring.give_back_pages()) };
        // SAFETY: Allocated with `__alloc_percpu()` or `vmalloc()`, by this function's
        // requirements.
        unsafe {
            match self {
                Rings::PerCpu(rings) => bindings::free_percpu(rings.cast()),
                Rings::Single(ring) => bindings::kvfree(ring.cast()),
            }
        }
    }
}

impl<'a> Ring<'a> {
    fn spin_lock(self) -> *mut bindings::spinlock_t {
        // SAFETY: A ring by the type invariant.
        unsafe { field(self.0, layout::iova_fq::LOCK) }
    }

    /// Takes its lock. Not to be held over anything that sleeps.
    fn lock(self) -> LockedRing<'a> {
        // SAFETY: Its lock was initialised with it; no caller has it or is in an interrupt.
        let flags = unsafe { iommu_live_spin_lock(self.spin_lock()) };
        // INVARIANT: Just taken.
        LockedRing { ring: self, flags }
    }

    fn word(self, offset: usize) -> &'a Atomic<u32> {
        // SAFETY: A ring by the type invariant; `offset` is one of its `unsigned int`s.
        unsafe { Atomic::from_ptr(field(self.0, offset)) }
    }

    fn head(self) -> &'a Atomic<u32> {
        self.word(layout::iova_fq::HEAD)
    }

    fn tail(self) -> &'a Atomic<u32> {
        self.word(layout::iova_fq::TAIL)
    }

    fn mod_mask(self) -> &'a Atomic<u32> {
        self.word(layout::iova_fq::MOD_MASK)
    }

    /// Slot 0, where late comers leave what they unmapped.
    fn slot(self) -> Slot<'a> {
        self.entry(0)
    }

    /// Its `mod_mask`, one less than it has entries, while it is not armed.
    pub(crate) fn mask(self) -> u32 {
        self.mod_mask().load(Relaxed)
    }

    /// How many entries it holds. Only exact while nobody adds to it or removes from it.
    pub(crate) fn entries(self) -> u32 {
        let tail = self.tail().load(Relaxed);
        tail.wrapping_sub(self.head().load(Relaxed)) & self.mask()
    }

    /// Whether nobody holds its lock or sleeps for it.
    pub(crate) fn lock_is_free(self) -> bool {
        // SAFETY: Its lock was initialised with it.
        unsafe { iommu_live_lock_is_free(self.spin_lock()) }
    }

    /// Arms it, if it is empty. Whether it is armed.
    ///
    /// `mask` is its `mod_mask` while it is not armed.
    pub(crate) fn arm_if_empty(self, mask: u32) -> bool {
        let _locked = self.lock();
        match self.mask() {
            ARMED => return true,
            found if found != mask => return false,
            _ => {}
        }
        if self.head().load(Relaxed) != self.tail().load(Relaxed) {
            return false;
        }
        self.head().store(0, Relaxed);
        self.tail().store(0, Relaxed);
        // Its list is one: the kernel initialises it anew whenever an entry leaves. What may be on
        // it, of a ring that overflowed and looks empty, is given back with the next late comer.
        self.slot().pages().store(0, Relaxed);
        self.mod_mask().store(ARMED, Relaxed);
        true
    }

    /// Whether a late comer seems to have left something. Without the lock: a look ahead, which
    /// spares it where there is nothing.
    pub(crate) fn has_late_comer(self) -> bool {
        self.slot().pages().load(Relaxed) != 0
    }

    /// Gives back what a late comer left, and leaves the ring armed. Whether there was anything.
    pub(crate) fn collect(self, cookie: Cookie<'_>) -> bool {
        let mut late = LateComer::none();
        {
            let locked = self.lock();
            if self.mask() == ARMED {
                self.slot().take(&mut late, &locked);
            }
        }
        late.give_back(cookie.iova_domain())
    }

    /// Puts it back to what it was, with `mask`, and gives back what a late comer left, whose number
    /// it adds to `collected`. Whether it was armed, and as it was left; if not, it stays what it is, but
    /// for an armed one that somebody changed, which becomes an armed one again.
    pub(crate) fn disarm(self, mask: u32, cookie: Cookie<'_>, collected: &mut u64) -> bool {
        let mut late = LateComer::none();
        {
            let locked = self.lock();
            let as_left = self.mask() == ARMED
                && self.head().load(Relaxed) == 0
                && self.tail().load(Relaxed) == 0;
            if !as_left {
                if self.mask() == ARMED {
                    // The kernel's loops over it would never end, with its lock held.
                    self.head().store(0, Relaxed);
                    self.tail().store(0, Relaxed);
                }
                return false;
            }
            self.slot().take(&mut late, &locked);
            self.mod_mask().store(mask, Relaxed);
        }
        *collected = collected.wrapping_add(late.give_back(cookie.iova_domain()).into());
        true
    }

    /// Whether nothing is in it but ranges of no pages. It is not armed.
    pub(crate) fn is_empty(self) -> bool {
        let _locked = self.lock();
        let (mask, tail) = (self.mask(), self.tail().load(Relaxed));
        let mut index = self.head().load(Relaxed);
        while index & mask != tail & mask {
            if self.entry(index & mask).pages().load(Relaxed) != 0 {
                return false;
            }
            index = index.wrapping_add(1);
        }
        true
    }

    /// Gives back pages that were in page tables. Nobody else has the ring, and it is not armed.
    fn give_back_pages(self) {
        for index in 0..=self.mask() {
            // SAFETY: The list of an entry is initialised with the ring and whenever something was
            // taken off it. What is on it was flushed: by those who put it there, or before the ring
            // was armed.
            unsafe { iommu_put_pages_list(self.entry(index).freelist()) };
        }
    }

    /// The entry at `index`, which is at most [`Self::mask`].
    fn entry(self, index: u32) -> Slot<'a> {
        // SAFETY: A ring by the type invariant, with `mask + 1` entries while it is not armed.
        let entry = unsafe {
            let first: *mut u8 = field(self.0, layout::iova_fq::ENTRIES);
            first.add(layout::iova_fq_entry::SIZE * index as usize)
        };
        Slot(entry, PhantomData)
    }
}

/// A ring whose lock is held, until this is dropped.
///
/// # Invariants
///
/// This thread holds the lock, and `flags` is what it got for it.
struct LockedRing<'a> {
    ring: Ring<'a>,
    flags: usize,
}

impl Drop for LockedRing<'_> {
    fn drop(&mut self) {
        // SAFETY: By the type invariant.
        unsafe { iommu_live_spin_unlock(self.ring.spin_lock(), self.flags) };
    }
}

/// A `struct iova_fq_entry` of a ring.
#[derive(Clone, Copy)]
struct Slot<'a>(*mut u8, PhantomData<&'a FlushQueue>);

impl<'a> Slot<'a> {
    fn word(self, offset: usize) -> &'a Atomic<usize> {
        // SAFETY: An entry of a ring that stays for `'a`; `offset` is one of its `unsigned long`s.
        unsafe { Atomic::from_ptr(self.0.add(offset).cast()) }
    }

    fn pages(self) -> &'a Atomic<usize> {
        self.word(layout::iova_fq_entry::PAGES)
    }

    fn freelist(self) -> *mut bindings::list_head {
        // SAFETY: As above.
        unsafe { self.0.add(layout::iova_fq_entry::FREELIST).cast() }
    }

    /// Moves what is there to `late`.
    fn take(self, late: &mut LateComer, _locked: &LockedRing<'_>) {
        late.pfn = self.word(layout::iova_fq_entry::IOVA_PFN).load(Relaxed);
        late.pages = self.pages().load(Relaxed);
        self.pages().store(0, Relaxed);
        // SAFETY: The entry's list is initialised, and what it is moved to is memory for one, which
        // stays where it is until it is empty.
        unsafe { iommu_live_list_move(self.freelist(), late.freelist.as_mut_ptr()) };
        late.taken = true;
    }
}

/// What a late comer left in a ring.
///
/// # Invariants
///
/// `freelist` is an initialised list if `taken`, and then this does not move.
struct LateComer {
    pfn: usize,
    pages: usize,
    freelist: MaybeUninit<bindings::list_head>,
    taken: bool,
}

impl LateComer {
    fn none() -> Self {
        Self {
            pfn: 0,
            pages: 0,
            freelist: MaybeUninit::uninit(),
            taken: false,
        }
    }

    /// Frees it. Nothing needs to be flushed: whoever left it has flushed after its change of the
    /// page table, before it took the ring's slot.
    fn give_back(&mut self, iovas: *mut IovaDomain) -> bool {
        if !self.taken {
            return false;
        }
        // SAFETY: A list by the type invariant. These pages are in no page table that an IOMMU may
        // still walk, as said above.
        unsafe { iommu_put_pages_list(self.freelist.as_mut_ptr()) };
        // Of no pages there is nothing to give back, and the allocator would take it for one page.
        if self.pages == 0 {
            return false;
        }
        // SAFETY: The range was allocated from these, unmapped and flushed; it was in one slot,
        // which is clear now, so it is given back once.
        unsafe { free_iova_fast(iovas, self.pfn, self.pages) };
        true
    }
}

// SPDX-License-Identifier: GPL-2.0-only

//! The strict entry: for the length of one switch, a copy of one domain's page table operations
//! (`struct pt_iommu_ops`) whose unmap entry makes the unmap strict.
//!
//! One pointer in the domain, `pt_iommu::ops`, is redirected to the copy and later put back. No
//! text is patched and no other domain is touched. `domain->ops` stays as it is: Intel's driver
//! tells kinds of domains apart by that pointer, and the kernel keeps it in a local variable while
//! it maps, across allocations that may sleep (`__iommu_map_domain_pgtbl()`), so a copy of those
//! could not be freed after any grace period.

use crate::{drivers::Audited, layout, layout::pt_iommu_ops as table, report};
use core::{ffi::c_void, mem::size_of};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed, Release};

type UnmapRange = unsafe extern "C" fn(*mut c_void, u64, u64, *mut u8) -> usize;

/// What a table is copied in: its function pointers keep their provenance.
type Word = *const c_void;

/// The table, in words.
const WORDS: usize = table::SIZE / size_of::<Word>();

// The copy is made of words, and the original entry is kept in the word behind it.
const _: () = {
    assert!(table::SIZE % size_of::<Word>() == 0);
    assert!(table::UNMAP_RANGE % size_of::<Word>() == 0 && table::UNMAP_RANGE < table::SIZE);
};

/// The entry that stands in for the original one, as the table has it.
fn strict() -> Word {
    iommu_live_strict_unmap_range as UnmapRange as Word
}

/// Memory for a strict entry, allocated ahead.
pub(crate) struct Spare(KVec<Word>);

impl Spare {
    /// Allocates it. May sleep and reclaim.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn allocate() -> Result<Self> {
        Ok(Self(KVec::with_capacity(WORDS + 1, GFP_KERNEL)?))
    }
}

/// A strict copy of a domain's operations table, not yet published or already restored when it
/// is dropped.
///
/// # Invariants
///
/// `original` is what `slot` holds while the entry is not published. `copy` is `original`'s table
/// with the unmap entry replaced, followed by the original unmap entry.
pub(crate) struct StrictEntry<'a> {
    slot: &'a Atomic<*mut c_void>,
    original: *mut c_void,
    copy: KVec<Word>,
}

impl<'a> StrictEntry<'a> {
    /// Copies the domain's table. Nothing is visible to unmaps yet.
    ///
    /// `None` if `spare` is too small, which it is not.
    pub(crate) fn prepare(domain: &Audited<'a>, spare: Spare) -> Option<Self> {
        let original = domain.slot.load(Relaxed);
        let mut copy = spare.0;
        for index in 0..WORDS {
            // SAFETY: `original` is a `struct pt_iommu_ops` in constant memory, by the invariants
            // of `Audited`.
            let word = unsafe { original.cast::<Word>().add(index).read() };
            copy.push_within_capacity(word).ok()?;
        }
        let unmap = copy.get_mut(table::UNMAP_RANGE / size_of::<Word>())?;
        let unmap = core::mem::replace(unmap, strict());
        copy.push_within_capacity(unmap).ok()?;
        // INVARIANT: As built just now.
        Some(Self {
            slot: domain.slot,
            original,
            copy,
        })
    }

    /// From here on, new unmaps take the strict entry.
    pub(crate) fn publish(&mut self) {
        self.slot.store(self.copy.as_mut_ptr().cast(), Release);
    }

    /// From here on, new unmaps take the original entry. The copy must live until nobody can be
    /// on their way through it.
    pub(crate) fn restore(&mut self) {
        self.slot.store(self.original, Release);
    }
}

/// The unmap entry that the table at `ops` had before it was made strict, or has.
///
/// Between the caller's load of the pointer and this one the original may have been restored, so
/// the table can be either.
///
/// # Safety
///
/// `ops` is a `struct pt_iommu_ops`, or a live [`StrictEntry`] copy of one.
unsafe fn original_entry(ops: *mut c_void) -> Word {
    // SAFETY: By this function's requirements; a copy has one more word behind the table.
    unsafe {
        match ops.byte_add(table::UNMAP_RANGE).cast::<Word>().read() {
            entry if entry == strict() => ops.byte_add(table::SIZE).cast::<Word>().read(),
            entry => entry,
        }
    }
}

/// Makes this unmap invalidate before it returns, whatever it sampled.
///
/// # Safety
///
/// `gather` is NULL or the caller's `struct iommu_iotlb_gather`.
unsafe fn make_strict(gather: *mut u8) {
    report::shimmed_unmap();
    if !gather.is_null() {
        // SAFETY: The gather is on the stack of the task that unmaps; `queued` is its `bool`.
        unsafe { gather.add(layout::iommu_iotlb_gather::QUEUED).write(0) };
    }
}

/// Stands in for `pt_iommu_ops::unmap_range`. Runs in any context an unmap may run in; neither
/// sleeps, nor allocates, nor panics. Not mangled: it is told apart from the original by its
/// address, so it must exist once.
///
/// # Safety
///
/// As `pt_iommu_ops::unmap_range`; called only through a published [`StrictEntry`].
#[no_mangle]
unsafe extern "C" fn iommu_live_strict_unmap_range(
    pt: *mut c_void,
    iova: u64,
    len: u64,
    gather: *mut u8,
) -> usize {
    // SAFETY: By the requirements: `pt` is a `struct pt_iommu`, `gather` its caller's. Its ops
    // are the driver's own or a copy that is freed only after everyone has left this function.
    // The original entry is a function of the type `UnmapRange`.
    unsafe {
        make_strict(gather);
        let ops = Atomic::from_ptr(pt.byte_add(layout::pt_iommu::OPS).cast::<*mut c_void>());
        let entry = original_entry(ops.load(Relaxed));
        core::mem::transmute::<Word, UnmapRange>(entry)(pt, iova, len, gather)
    }
}

// SPDX-License-Identifier: GPL-2.0-only

//! The strict copy of one domain's operations table: its unmap entry, the strict entry, makes each
//! unmap strict. The domain points to it, and not to the original table, until the rings are freed.
//!
//! One pointer in the domain is redirected to the copy and later put back. No text is patched and
//! no other domain is touched. Which pointer depends on the driver:
//!
//! * On the generic page table it is `pt_iommu::ops`. `domain->ops` stays as it is: Intel's driver
//!   tells kinds of domains apart by that pointer. The copy is freed when the clean-up ends; I5 in
//!   `protocol.rs` says why it may be.
//! * Elsewhere it is `domain->ops`. The kernel keeps that pointer in a local variable while it
//!   maps, across allocations that may sleep (`__iommu_map_domain_pgtbl()`), so no grace period
//!   says when the copy could be freed: it is kept for ever ([`leaked_tables`]). What a map calls
//!   of it are the driver's own functions.
//!
//! The kernel loads these pointers plainly (`__iommu_unmap()`). That is sound here because each is
//! one aligned word that the compiler loads at once, and because both the old and the new table are
//! complete when the pointer changes.

use crate::{
    counters, drivers::Audited, layout, leaked_tables, unmap_table::Operations, unmap_table::Table,
    unmap_table::Word,
};
use core::{
    ffi::c_void,
    mem::{replace, size_of},
};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};

type UnmapRange =
    unsafe extern "C" fn(*mut c_void, u64, u64, *mut bindings::iommu_iotlb_gather) -> usize;
type UnmapPages = unsafe extern "C" fn(
    *mut bindings::iommu_domain,
    u64,
    usize,
    usize,
    *mut bindings::iommu_iotlb_gather,
) -> usize;

/// Memory for a copy, allocated ahead.
pub(crate) struct Spare(KVec<Word>);

// SAFETY: It is empty: memory that any thread may fill or free.
unsafe impl Send for Spare {}

impl Spare {
    /// Allocates it. May sleep and reclaim. Fails with `ENOMEM`.
    pub(crate) fn allocate() -> Result<Self> {
        Ok(Self(KVec::with_capacity(Table::LONGEST_COPY, GFP_KERNEL)?))
    }
}

/// A copy of a domain's operations table with the strict entry.
///
/// To drop it frees it, unless it is one that is kept for ever. Once a domain has pointed to it that
/// takes a grace period first: I5 in `protocol.rs`.
///
/// # Invariants
///
/// It is the table at `original`, which is constant, with the unmap entry replaced, followed by the
/// original unmap entry.
pub(crate) struct StrictCopy {
    original: *mut Operations,
    place: Place,
}

// SAFETY: Nobody writes to a copy, and any thread may free its memory.
unsafe impl Send for StrictCopy {}

/// Where a copy is.
enum Place {
    /// In memory of its own, which goes with it.
    Own(KVec<Word>),
    /// Where it stays.
    Leaked(&'static [Word]),
}

impl StrictCopy {
    /// Copies the domain's table. Nothing is visible to unmaps yet.
    ///
    /// `None` if there is no room: there are more kinds of tables than this was written for.
    pub(crate) fn of(domain: &Audited<'_>, spare: Spare) -> Option<Self> {
        let table = domain.table;
        let original = domain.slot.load(Relaxed);
        let mut copy = spare.0;
        for index in 0..table.words() {
            // SAFETY: `original` is a `table` in constant memory, by the invariants of `Audited`.
            let word = unsafe { original.cast::<Word>().add(index).read() };
            copy.push_within_capacity(word).ok()?;
        }
        let unmap = copy.get_mut(table.unmap() / size_of::<Word>())?;
        let unmap = replace(unmap, strict_entry(table));
        copy.push_within_capacity(unmap).ok()?;
        let place = match table {
            Table::PageTable => Place::Own(copy),
            Table::Domain => Place::Leaked(leaked_tables::keep(copy)?),
        };
        // INVARIANT: As built just now.
        Some(Self { original, place })
    }

    /// The table that was copied.
    pub(crate) fn original(&self) -> *mut Operations {
        self.original
    }

    /// What a domain's pointer becomes. Nobody writes there.
    pub(crate) fn as_ptr(&self) -> *mut Operations {
        let words = match &self.place {
            Place::Own(words) => words.as_ptr(),
            Place::Leaked(words) => words.as_ptr(),
        };
        words.cast_mut().cast()
    }
}

/// The entry that stands in for the original one, as the table has it.
fn strict_entry(table: Table) -> Word {
    match table {
        Table::PageTable => iommu_live_strict_unmap_range as UnmapRange as Word,
        Table::Domain => iommu_live_strict_unmap_pages as UnmapPages as Word,
    }
}

/// The unmap entry that the `table` at `ops` had before it was made strict, or has.
///
/// Between the caller's load of the pointer and this one the original may have been restored, and a
/// copy published again, so the table can be each of them.
///
/// # Safety
///
/// `ops` is a `table`, or a live [`StrictCopy`] of one.
unsafe fn original_entry(ops: *mut Operations, table: Table) -> Word {
    // SAFETY: By this function's requirements; a copy has one more word behind the table.
    unsafe {
        match ops.byte_add(table.unmap()).cast::<Word>().read() {
            entry if entry == strict_entry(table) => {
                ops.byte_add(table.size()).cast::<Word>().read()
            }
            entry => entry,
        }
    }
}

/// Makes this unmap invalidate before it returns, whatever it sampled.
///
/// # Safety
///
/// `gather` is NULL or the caller's.
unsafe fn make_strict(gather: *mut bindings::iommu_iotlb_gather) {
    counters::count_strict_entry();
    if !gather.is_null() {
        // SAFETY: The gather is on the stack of the task that unmaps; `queued` is its `bool`.
        unsafe {
            gather
                .byte_add(layout::iommu_iotlb_gather::QUEUED)
                .cast::<u8>()
                .write(0)
        };
    }
}

/// Stands in for `pt_iommu_ops::unmap_range`. Runs in any context an unmap may run in; neither
/// sleeps, nor allocates, nor panics. Not mangled: it is told apart from the original by its
/// address, so it must exist once.
///
/// # Safety
///
/// As `pt_iommu_ops::unmap_range`; called only through a published [`StrictCopy`].
#[no_mangle]
unsafe extern "C" fn iommu_live_strict_unmap_range(
    pt: *mut c_void,
    iova: u64,
    len: u64,
    gather: *mut bindings::iommu_iotlb_gather,
) -> usize {
    // SAFETY: By the requirements: `pt` is a `struct pt_iommu`, `gather` its caller's. Its ops
    // are the driver's own or a copy, which is freed only after a grace period that began after its
    // last restore: everyone who may have found it has left this function by then.
    // The original entry is a function of the type `UnmapRange`.
    unsafe {
        make_strict(gather);
        let ops = pt.byte_add(layout::pt_iommu::OPS);
        let ops = Atomic::from_ptr(ops.cast::<*mut Operations>());
        let entry = original_entry(ops.load(Relaxed), Table::PageTable);
        core::mem::transmute::<Word, UnmapRange>(entry)(pt, iova, len, gather)
    }
}

/// The same for `iommu_domain_ops::unmap_pages`.
///
/// # Safety
///
/// As `iommu_domain_ops::unmap_pages`; called only through a published [`StrictCopy`].
#[no_mangle]
unsafe extern "C" fn iommu_live_strict_unmap_pages(
    domain: *mut bindings::iommu_domain,
    iova: u64,
    size: usize,
    count: usize,
    gather: *mut bindings::iommu_iotlb_gather,
) -> usize {
    // SAFETY: By the requirements: `domain` is a `struct iommu_domain`, `gather` its caller's.
    // Its ops are the driver's own or a copy that is never freed. The original entry is a
    // function of the type `UnmapPages`. This text stays until everyone has left it: the clean-up,
    // which has a reference of the module, ends with a grace period.
    unsafe {
        make_strict(gather);
        let ops = domain.byte_add(layout::iommu_domain::OPS);
        let ops = Atomic::from_ptr(ops.cast::<*mut Operations>());
        let entry = original_entry(ops.load(Relaxed), Table::Domain);
        core::mem::transmute::<Word, UnmapPages>(entry)(domain, iova, size, count, gather)
    }
}

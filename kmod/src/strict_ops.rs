// SPDX-License-Identifier: GPL-2.0-only

//! The strict entry: for the length of one switch, a copy of one domain's operations table whose
//! unmap entry makes the unmap strict.
//!
//! One pointer in the domain is redirected to the copy and later put back. No text is patched and
//! no other domain is touched. Which pointer depends on the driver:
//!
//! * On the generic page table it is `pt_iommu::ops`. `domain->ops` stays as it is: Intel's driver
//!   tells kinds of domains apart by that pointer. The copy is freed after the switch.
//! * Elsewhere it is `domain->ops`. The kernel keeps that pointer in a local variable while it
//!   maps, across allocations that may sleep (`__iommu_map_domain_pgtbl()`), so no grace period
//!   says when the copy could be freed: it is kept for ever ([`leaked_tables`]). What a map calls of it are
//!   the driver's own functions.

use crate::{drivers::Audited, layout, leaked_tables, report};
use core::{ffi::c_void, mem::size_of};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed, Release};

type UnmapRange = unsafe extern "C" fn(*mut c_void, u64, u64, *mut u8) -> usize;
type UnmapPages = unsafe extern "C" fn(*mut c_void, u64, usize, usize, *mut u8) -> usize;

/// What a table is copied in: its function pointers keep their provenance.
pub(crate) type Word = *const c_void;

/// A kind of operations table with an unmap entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// `struct pt_iommu_ops`, of the generic page table.
    PageTable,
    /// `struct iommu_domain_ops`, of a domain with page tables of another kind.
    Domain,
}

impl Table {
    /// The length of a copy of [`Table::Domain`], in words.
    pub(crate) const COPY: usize = Table::Domain.words() + 1;

    /// Its size in bytes.
    const fn size(self) -> usize {
        match self {
            Table::PageTable => layout::pt_iommu_ops::SIZE,
            Table::Domain => layout::iommu_domain_ops::SIZE,
        }
    }

    /// Where its unmap entry is, in bytes.
    pub(crate) const fn unmap(self) -> usize {
        match self {
            Table::PageTable => layout::pt_iommu_ops::UNMAP_RANGE,
            Table::Domain => layout::iommu_domain_ops::UNMAP_PAGES,
        }
    }

    /// Its size in words.
    const fn words(self) -> usize {
        self.size() / size_of::<Word>()
    }

    /// The entry that stands in for the original one, as the table has it.
    fn strict(self) -> Word {
        match self {
            Table::PageTable => iommu_live_strict_unmap_range as UnmapRange as Word,
            Table::Domain => iommu_live_strict_unmap_pages as UnmapPages as Word,
        }
    }
}

// The copy is made of words, and the original entry is kept in the word behind it.
const _: () = {
    let tables = [Table::PageTable, Table::Domain];
    let mut index = 0;
    while index < tables.len() {
        let (size, unmap) = (tables[index].size(), tables[index].unmap());
        assert!(size % size_of::<Word>() == 0);
        assert!(unmap % size_of::<Word>() == 0 && unmap < size);
        index += 1;
    }
};

/// Memory for a strict entry, allocated ahead.
pub(crate) struct Spare(KVec<Word>);

// SAFETY: It is empty: memory that any thread may fill or free.
unsafe impl Send for Spare {}

impl Spare {
    /// Allocates it. May sleep and reclaim.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn allocate() -> Result<Self> {
        let most = Table::PageTable.words().max(Table::Domain.words());
        Ok(Self(KVec::with_capacity(most + 1, GFP_KERNEL)?))
    }
}

/// Where a copy is.
pub(crate) enum Copy {
    /// In memory of its own, which goes with it.
    Own(KVec<Word>),
    /// Where it stays.
    Kept(&'static [Word]),
}

impl Copy {
    /// What a domain's pointer becomes. Nobody writes there.
    fn as_ptr(&self) -> *mut c_void {
        let words = match self {
            Copy::Own(words) => words.as_ptr(),
            Copy::Kept(words) => words.as_ptr(),
        };
        words.cast_mut().cast()
    }
}

/// A strict copy of a domain's operations table, not yet published when it is dropped.
///
/// # Invariants
///
/// `original` is what `slot` holds while the entry is not published. `copy` is `original`'s table
/// with the unmap entry replaced, followed by the original unmap entry.
pub(crate) struct StrictEntry<'a> {
    slot: &'a Atomic<*mut c_void>,
    original: *mut c_void,
    copy: Copy,
}

impl<'a> StrictEntry<'a> {
    /// Copies the domain's table. Nothing is visible to unmaps yet.
    ///
    /// `None` if there is no room: there are more kinds of tables than this was written for.
    pub(crate) fn prepare(domain: &Audited<'a>, spare: Spare) -> Option<Self> {
        let table = domain.table;
        let original = domain.slot.load(Relaxed);
        let mut copy = spare.0;
        for index in 0..table.words() {
            // SAFETY: `original` is a `table` in constant memory, by the invariants of `Audited`.
            let word = unsafe { original.cast::<Word>().add(index).read() };
            copy.push_within_capacity(word).ok()?;
        }
        let unmap = copy.get_mut(table.unmap() / size_of::<Word>())?;
        let unmap = core::mem::replace(unmap, table.strict());
        copy.push_within_capacity(unmap).ok()?;
        let copy = match table {
            Table::PageTable => Copy::Own(copy),
            Table::Domain => Copy::Kept(leaked_tables::keep(copy)?),
        };
        // INVARIANT: As built just now.
        Some(Self {
            slot: domain.slot,
            original,
            copy,
        })
    }

    /// From here on, new unmaps take the strict entry.
    pub(crate) fn publish(&mut self) {
        self.slot.store(self.copy.as_ptr(), Release);
    }

    /// From here on, new unmaps take the original entry. The copy must live until nobody can be
    /// on their way through it.
    pub(crate) fn restore(&mut self) {
        self.slot.store(self.original, Release);
    }

    /// What is left when the original entry has been restored.
    pub(crate) fn retire(self) -> Copy {
        self.copy
    }
}

/// The unmap entry that the `table` at `ops` had before it was made strict, or has.
///
/// Between the caller's load of the pointer and this one the original may have been restored, and
/// the copy of the next switch published, so the table can be each of them.
///
/// # Safety
///
/// `ops` is a `table`, or a live [`StrictEntry`] copy of one.
unsafe fn original_entry(ops: *mut c_void, table: Table) -> Word {
    // SAFETY: By this function's requirements; a copy has one more word behind the table.
    unsafe {
        match ops.byte_add(table.unmap()).cast::<Word>().read() {
            entry if entry == table.strict() => ops.byte_add(table.size()).cast::<Word>().read(),
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
    // are the driver's own or a copy, of this switch or the next, that is freed only after everyone
    // who may have found it has left this function.
    // The original entry is a function of the type `UnmapRange`.
    unsafe {
        make_strict(gather);
        let ops = Atomic::from_ptr(pt.byte_add(layout::pt_iommu::OPS).cast::<*mut c_void>());
        let entry = original_entry(ops.load(Relaxed), Table::PageTable);
        core::mem::transmute::<Word, UnmapRange>(entry)(pt, iova, len, gather)
    }
}

/// The same for `iommu_domain_ops::unmap_pages`.
///
/// # Safety
///
/// As `iommu_domain_ops::unmap_pages`; called only through a published [`StrictEntry`].
#[no_mangle]
unsafe extern "C" fn iommu_live_strict_unmap_pages(
    domain: *mut c_void,
    iova: u64,
    size: usize,
    count: usize,
    gather: *mut u8,
) -> usize {
    // SAFETY: By the requirements: `domain` is a `struct iommu_domain`, `gather` its caller's.
    // Its ops are the driver's own or a copy that is never freed. The original entry is a
    // function of the type `UnmapPages`. This text stays until everyone has left it (I5).
    unsafe {
        make_strict(gather);
        let ops = domain.byte_add(layout::iommu_domain::OPS);
        let ops = Atomic::from_ptr(ops.cast::<*mut c_void>());
        let entry = original_entry(ops.load(Relaxed), Table::Domain);
        core::mem::transmute::<Word, UnmapPages>(entry)(domain, iova, size, count, gather)
    }
}

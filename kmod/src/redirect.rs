// SPDX-License-Identifier: GPL-2.0-only

//! The strict entry: for the length of one switch, a copy of one domain's operations table whose
//! unmap entry makes the unmap strict.
//!
//! One pointer in the domain is redirected to the copy and later put back. No text is patched and
//! no other domain is touched.

use crate::{drivers::Audited, layout, report};
use core::{ffi::c_void, mem::size_of};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed, Release};

type UnmapRange = unsafe extern "C" fn(*mut c_void, u64, u64, *mut u8) -> usize;
type UnmapPages = unsafe extern "C" fn(*mut c_void, usize, usize, usize, *mut u8) -> usize;

/// Which operations table of a domain holds the unmap entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Redirect {
    /// `pt_iommu::ops->unmap_range`, for domains on the generic page table. `domain->ops` stays
    /// as it is: Intel's driver tells kinds of domains apart by that pointer.
    GenericPt,
    /// `domain->ops->unmap_pages`, for the others.
    #[expect(dead_code, reason = "no driver on the list needs it yet")]
    DomainOps,
}

/// What a table is copied in: its function pointers keep their provenance.
type Word = *const c_void;

/// Where a table keeps its unmap entry, in bytes.
struct Table {
    size: usize,
    unmap: usize,
}

const GENERIC_PT: Table = Table {
    size: layout::pt_iommu_ops::SIZE,
    unmap: layout::pt_iommu_ops::UNMAP_RANGE,
};

const DOMAIN_OPS: Table = Table {
    size: layout::iommu_domain_ops::SIZE,
    unmap: layout::iommu_domain_ops::UNMAP_PAGES,
};

// The copy is made of words, and the original entry is kept in the word behind it.
const _: () = {
    assert!(GENERIC_PT.size % size_of::<Word>() == 0);
    assert!(GENERIC_PT.unmap % size_of::<Word>() == 0 && GENERIC_PT.unmap < GENERIC_PT.size);
    assert!(DOMAIN_OPS.size % size_of::<Word>() == 0);
    assert!(DOMAIN_OPS.unmap % size_of::<Word>() == 0 && DOMAIN_OPS.unmap < DOMAIN_OPS.size);
};

const fn words(table: &Table) -> usize {
    table.size / size_of::<Word>()
}

impl Redirect {
    fn table(self) -> &'static Table {
        match self {
            Redirect::GenericPt => &GENERIC_PT,
            Redirect::DomainOps => &DOMAIN_OPS,
        }
    }

    fn strict(self) -> *const c_void {
        match self {
            Redirect::GenericPt => iommu_live_strict_unmap_range as UnmapRange as *const c_void,
            Redirect::DomainOps => iommu_live_strict_unmap_pages as UnmapPages as *const c_void,
        }
    }

    /// Where such a table keeps its unmap entry, in bytes.
    pub(crate) fn unmap_offset(self) -> usize {
        self.table().unmap
    }
}

/// Memory for a strict entry of any kind, allocated ahead.
pub(crate) struct Spare(KVec<Word>);

impl Spare {
    /// Allocates it. May sleep and reclaim.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn allocate() -> Result<Self> {
        const WORDS: usize = words(&GENERIC_PT).saturating_add(words(&DOMAIN_OPS));
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
        let redirect = domain.driver.redirect;
        let original = domain.slot.load(Relaxed);
        let table = redirect.table();
        let mut copy = spare.0;
        for index in 0..words(table) {
            // SAFETY: `original` is an operations table of `table.size` bytes in constant memory,
            // by the invariants of `Audited`.
            let word = unsafe { original.cast::<Word>().add(index).read() };
            copy.push_within_capacity(word).ok()?;
        }
        let unmap = copy.get_mut(table.unmap / size_of::<Word>())?;
        let unmap = core::mem::replace(unmap, redirect.strict());
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

/// The unmap entry that `table` had before it was made strict, or has.
///
/// Between the caller's load of the table and this one the original may have been restored, so
/// `table` can be either.
///
/// # Safety
///
/// `table` is an operations table described by `kind`, or a live [`StrictEntry`] copy of one.
unsafe fn original_entry(table: *mut c_void, kind: &Table, strict: Word) -> Word {
    // SAFETY: By this function's requirements; a copy has one more word behind the table.
    unsafe {
        match table.byte_add(kind.unmap).cast::<Word>().read() {
            entry if entry == strict => table.byte_add(kind.size).cast::<Word>().read(),
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
        let strict = iommu_live_strict_unmap_range as UnmapRange as *const c_void;
        let entry = original_entry(ops.load(Relaxed), &GENERIC_PT, strict);
        core::mem::transmute::<Word, UnmapRange>(entry)(pt, iova, len, gather)
    }
}

/// Stands in for `iommu_domain_ops::unmap_pages`. As [`iommu_live_strict_unmap_range`].
///
/// # Safety
///
/// As `iommu_domain_ops::unmap_pages`; called only through a published [`StrictEntry`].
#[no_mangle]
unsafe extern "C" fn iommu_live_strict_unmap_pages(
    domain: *mut c_void,
    iova: usize,
    page_size: usize,
    count: usize,
    gather: *mut u8,
) -> usize {
    // SAFETY: As in `iommu_live_strict_unmap_range`, with a `struct iommu_domain`.
    unsafe {
        make_strict(gather);
        let ops = Atomic::from_ptr(
            domain
                .byte_add(layout::iommu_domain::OPS)
                .cast::<*mut c_void>(),
        );
        let strict = iommu_live_strict_unmap_pages as UnmapPages as *const c_void;
        let entry = original_entry(ops.load(Relaxed), &DOMAIN_OPS, strict);
        core::mem::transmute::<Word, UnmapPages>(entry)(domain, iova, page_size, count, gather)
    }
}

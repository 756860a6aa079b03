// SPDX-License-Identifier: GPL-2.0-only

//! The two kinds of operations tables that have an unmap entry.

use crate::layout;
use core::mem::size_of;

/// What a table is copied in: its function pointers keep their provenance.
pub(crate) type Word = *const core::ffi::c_void;

/// An operations table of the kernel: a [`Table`] of one kind or the other.
#[repr(transparent)]
pub(crate) struct Operations(core::ffi::c_void);

/// A kind of operations table with an unmap entry.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Table {
    /// `struct pt_iommu_ops`, of the generic page table.
    PageTable,
    /// `struct iommu_domain_ops`, of a domain with page tables of another kind.
    Domain,
}

impl Table {
    /// The length of a copy of [`Table::Domain`], in words: the table, and the original unmap entry
    /// behind it.
    pub(crate) const COPY: usize = Table::Domain.words() + 1;

    /// The length of the longest copy, in words.
    pub(crate) const LONGEST_COPY: usize = if Table::PageTable.words() > Table::Domain.words() {
        Table::PageTable.words() + 1
    } else {
        Table::COPY
    };

    /// Its size in bytes.
    pub(crate) const fn size(self) -> usize {
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
    pub(crate) const fn words(self) -> usize {
        self.size() / size_of::<Word>()
    }
}

// A copy is made of words, and the original entry is kept in the word behind it.
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

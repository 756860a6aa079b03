// SPDX-License-Identifier: GPL-2.0-only

//! Copies of operations tables that are never freed: somebody may hold a pointer to one while
//! asleep, and nothing tells for how long.
//!
//! One of each kind is kept, however many domains it serves and however often they switch. They
//! stay behind when the module leaves, so each load of the module may add some hundred bytes. Who
//! still holds one then calls none of its functions that are the module's (see
//! [`crate::strict_ops`]).

use crate::{
    ffi::iommu_live_keeps,
    unmap_table::{Table, Word},
};
use core::{ptr, slice};
use kernel::pr_warn_once;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full};

/// More than there are kinds of tables in a kernel that has all audited drivers.
const PLACES: usize = 8;

/// # Invariants
///
/// Each is NULL, or points for ever to [`Table::COPY`] words that nobody changes.
static LEAKED: [Atomic<*mut Word>; PLACES] = [const { Atomic::new(ptr::null_mut()) }; PLACES];

/// The copy, never freed, of a [`Table::Domain`] with this content, which becomes it if there is none.
///
/// `None` if all places are taken by others, or it has another length.
pub(crate) fn keep(words: KVec<Word>) -> Option<&'static [Word]> {
    if words.len() != Table::COPY {
        return None;
    }
    let (new, length, capacity) = words.into_raw_parts();
    let found = LEAKED.iter().find_map(|place| {
        let there = match place.load(Acquire) {
            // Full: who finds the pointer finds the words.
            // INVARIANT: It has so many words, as checked above, and from here on nobody changes
            // or frees them.
            empty if empty.is_null() => match place.cmpxchg(empty, new, Full) {
                Ok(_) => new,
                // Somebody else's, and no longer NULL.
                Err(_) => place.load(Acquire),
            },
            there => there,
        };
        // SAFETY: Both have so many words, by the invariants of `LEAKED` and as checked above.
        let (leaked, mine) = unsafe {
            (
                slice::from_raw_parts(there.cast_const(), Table::COPY),
                slice::from_raw_parts(new.cast_const(), Table::COPY),
            )
        };
        (leaked == mine).then_some(leaked)
    });
    if found.is_some_and(|leaked| leaked.as_ptr() == new) {
        // SAFETY: Allocated memory. It only tells kmemleak.
        unsafe { iommu_live_keeps(new.cast()) };
        return found;
    }
    // SAFETY: The parts of the vector above, which is in no place.
    drop(unsafe { KVec::from_raw_parts(new, length, capacity) });
    if found.is_none() {
        pr_warn_once!(
            "no room for another kind of IOMMU domain: its tighten is left to the kernel\n"
        );
    }
    found
}

// SPDX-License-Identifier: GPL-2.0-only

//! Copies of operations tables that are never freed: somebody may hold a pointer to one while
//! asleep, and nothing tells for how long.
//!
//! One of each kind is kept, however many domains it serves and however often they switch. They
//! stay behind when the module leaves, so each load of the module may add some hundred bytes. Who
//! still holds one then calls none of its functions that are the module's (see
//! [`crate::strict_ops`]).

use crate::strict_ops::{Table, Word};
use core::{ffi::c_void, ptr, slice};
use kernel::pr_warn_once;
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full};

/// More than there are kinds of tables in a kernel that has all audited drivers.
const PLACES: usize = 8;

extern "C" {
    /// Says that memory is not lost although nobody points to it.
    fn iommu_live_keeps(memory: *const c_void);
}

/// # Invariants
///
/// Each is NULL, or points for ever to [`Table::COPY`] words that nobody changes.
static KEPT: [Atomic<*mut Word>; PLACES] = [const { Atomic::new(ptr::null_mut()) }; PLACES];

/// The kept copy of a [`Table::Domain`] with this content, which becomes it if there is none.
///
/// `None` if all places are taken by others, or it has another length.
pub(crate) fn keep(words: KVec<Word>) -> Option<&'static [Word]> {
    if words.len() != Table::COPY {
        return None;
    }
    let (new, length, capacity) = words.into_raw_parts();
    let found = KEPT.iter().find_map(|place| {
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
        // SAFETY: Both have so many words, by the invariants of `KEPT` and as checked above.
        let (kept, mine) = unsafe {
            (
                slice::from_raw_parts(there.cast_const(), Table::COPY),
                slice::from_raw_parts(new.cast_const(), Table::COPY),
            )
        };
        (kept == mine).then_some(kept)
    });
    if found.is_some_and(|kept| kept.as_ptr() == new) {
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

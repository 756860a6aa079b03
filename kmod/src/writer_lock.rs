// SPDX-License-Identifier: GPL-2.0-only

//! One writer of a group's `type` at a time, from entry to return.
//!
//! The group's own mutex may be taken and dropped several times within one write: for our checks,
//! by the kernel's own store, and to read back. Without this lock another writer could come
//! between, and a report would mix the two.
//!
//! It is not held while a switch is cleaned up, and readers do not take it. Who waits for it can be
//! killed, which a mutex of the kernel crate does not offer. Lockdep does not see it.

use core::{cell::UnsafeCell, mem::MaybeUninit};
use kernel::bindings;
use kernel::prelude::*;

/// Groups share a lock only if their numbers are this far apart.
const LOCKS_COUNT: usize = 256;

/// The lock of some groups, in static memory: a completion, of which there is one when nobody has
/// it.
struct Slot(UnsafeCell<MaybeUninit<bindings::completion>>);

// SAFETY: A completion is made to be shared; it is accessed through the kernel's functions only.
unsafe impl Sync for Slot {}

impl Slot {
    fn as_ptr(&self) -> *mut bindings::completion {
        self.0.get().cast()
    }
}

static LOCKS: [Slot; LOCKS_COUNT] =
    [const { Slot(UnsafeCell::new(MaybeUninit::uninit())) }; LOCKS_COUNT];

/// Makes all locks free.
///
/// # Safety
///
/// Called once, before any is taken.
pub(crate) unsafe fn init() {
    for slot in &LOCKS {
        // SAFETY: Nobody uses it yet, by this function's requirements, and it stays where it is.
        unsafe {
            bindings::init_completion(slot.as_ptr());
            bindings::complete(slot.as_ptr());
        }
    }
}

/// The lock of one group's writers, held until this is dropped.
///
/// # Invariants
///
/// Nobody else has it, and it was initialised.
pub(crate) struct WriterLock(&'static Slot);

impl WriterLock {
    /// Takes it. Sleeps. `EINTR` if the writer was killed meanwhile.
    ///
    /// # Safety
    ///
    /// [`init`] was called.
    pub(crate) unsafe fn take(group: i32) -> Result<Self> {
        let [first, ..] = &LOCKS;
        let slot = LOCKS
            .get(group.unsigned_abs() as usize % LOCKS_COUNT)
            .unwrap_or(first);
        // SAFETY: Initialised, by this function's requirements; writers of sysfs files may sleep.
        if unsafe { bindings::wait_for_completion_killable(slot.as_ptr()) } != 0 {
            return Err(EINTR);
        }
        // INVARIANT: Just taken.
        Ok(Self(slot))
    }
}

impl Drop for WriterLock {
    fn drop(&mut self) {
        // SAFETY: Initialised, and not free, by the type invariant.
        unsafe { bindings::complete(self.0.as_ptr()) };
    }
}

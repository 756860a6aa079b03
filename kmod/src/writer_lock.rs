// SPDX-License-Identifier: GPL-2.0-only

//! Writers of one group's `type` take turns, from entry to return.
//!
//! The group's own mutex is taken and dropped several times within one write: for our checks, by
//! the kernel's own store, and to read back. Without turns another writer could come between, and
//! a report would mix the two. It also keeps writers from waiting inside the kernel's store while
//! one of our switches holds the group's mutex: that store looks at `default_domain` once before
//! it has the mutex, and a device that is removed meanwhile makes it NULL.
//!
//! Whoever makes a switch keeps the turn for as long as it holds the mutex, which is longer than
//! the writer is kept waiting. So a turn can be shared, and is over when the last one lets go of
//! it.
//!
//! This is no mutex, so lockdep does not see it, and who waits does not lend its priority. Who
//! comes just as a turn ends may go first.

use core::{cell::UnsafeCell, mem::MaybeUninit};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Full, Relaxed};

/// Groups share a turn only if their numbers are this far apart.
const TURNS_COUNT: usize = 256;

/// The turn at some groups, in static memory.
struct Slot {
    /// A semaphore of one: a completion, of which there is one when nobody has the turn. Who ends a
    /// turn need not be who began it, which rules a mutex out.
    free: UnsafeCell<MaybeUninit<bindings::completion>>,
    /// How many share it.
    shares: Atomic<i32>,
}

// SAFETY: A completion is made to be shared; it is accessed through the kernel's functions only.
unsafe impl Sync for Slot {}

impl Slot {
    const fn new() -> Self {
        Self {
            free: UnsafeCell::new(MaybeUninit::uninit()),
            shares: Atomic::new(0),
        }
    }

    fn as_ptr(&self) -> *mut bindings::completion {
        self.free.get().cast()
    }
}

static TURNS: [Slot; TURNS_COUNT] = [const { Slot::new() }; TURNS_COUNT];

/// Not 0 when the module is about to leave. Whoever takes a turn after [`wait_for_all`] has had
/// it sees that.
static LEAVING: Atomic<i32> = Atomic::new(0);

/// Makes all turns free.
///
/// # Safety
///
/// Called once, before any turn is taken.
pub(crate) unsafe fn init() {
    for slot in &TURNS {
        // SAFETY: Nobody uses it yet, by this function's requirements, and it stays where it is.
        unsafe {
            bindings::init_completion(slot.as_ptr());
            bindings::complete(slot.as_ptr());
        }
    }
}

/// Lets no turn that is taken from now on be used for a switch.
pub(crate) fn last_call() {
    LEAVING.store(1, Relaxed);
}

/// Waits for every turn that has been taken.
///
/// # Safety
///
/// [`init`] was called, and this thread has no turn.
pub(crate) unsafe fn wait_for_all() {
    for slot in &TURNS {
        // SAFETY: Initialised, by this function's requirements; a module's exit may sleep. It must
        // not be cut short, so this is not the killable one.
        unsafe {
            bindings::wait_for_completion(slot.as_ptr());
            bindings::complete(slot.as_ptr());
        }
    }
}

/// A turn at one group, or a share in it.
///
/// # Invariants
///
/// Counted in `shares`. Nobody else has the turn but by a share, and it was initialised.
pub(crate) struct Turn(&'static Slot);

impl Turn {
    /// Waits for the turn at the group with this number. Sleeps.
    ///
    /// # Errors
    ///
    /// `EINTR` if the writer was killed meanwhile.
    ///
    /// # Safety
    ///
    /// [`init`] was called.
    pub(crate) unsafe fn take(group: i32) -> Result<Self> {
        let [first, ..] = &TURNS;
        let slot = TURNS
            .get(group.unsigned_abs() as usize % TURNS_COUNT)
            .unwrap_or(first);
        // SAFETY: Initialised, by this function's requirements; writers of sysfs files may sleep.
        if unsafe { bindings::wait_for_completion_killable(slot.as_ptr()) } != 0 {
            return Err(EINTR);
        }
        slot.shares.store(1, Relaxed);
        // INVARIANT: Just taken, and counted.
        Ok(Self(slot))
    }

    /// Another share.
    pub(crate) fn share(&self) -> Self {
        self.0.shares.fetch_add(1, Relaxed);
        // INVARIANT: Just counted.
        Self(self.0)
    }

    /// Whether a switch may begin.
    pub(crate) fn may_switch(&self) -> bool {
        LEAVING.load(Relaxed) == 0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // Full: what others did with their shares comes before what the next one does with its
        // turn.
        if self.0.shares.fetch_sub(1, Full) == 1 {
            // SAFETY: Initialised, and not free, by the type invariant.
            unsafe { bindings::complete(self.0.as_ptr()) };
        }
    }
}

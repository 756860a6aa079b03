// SPDX-License-Identifier: GPL-2.0-only

//! Writers of one group's `type` take turns, from entry to return.
//!
//! The group's own mutex is taken and dropped several times within one write: for our checks, by
//! the kernel's own store, and to read back. Without turns another writer could come between, and
//! a report would mix the two. It also keeps writers from waiting inside the kernel's store while
//! one of our switches holds the group's mutex: that store looks at `default_domain` once before
//! it has the mutex, and a device that is removed meanwhile makes it NULL.

use core::{cell::UnsafeCell, marker::PhantomData, mem::MaybeUninit};
use kernel::bindings;
use kernel::error::to_result;
use kernel::prelude::*;
use kernel::static_lock_class;
use kernel::sync::atomic::{Atomic, Relaxed};

extern "C" {
    fn iommu_live_mutex_lock_killable(lock: *mut bindings::mutex) -> i32;
}

/// Groups share a lock only if their numbers are this far apart.
const LOCKS: usize = 256;

/// A kernel mutex in static memory.
struct Lock(UnsafeCell<MaybeUninit<bindings::mutex>>);

// SAFETY: A mutex is made to be shared; it is accessed through the kernel's functions only.
unsafe impl Sync for Lock {}

static TURNS: [Lock; LOCKS] = [const { Lock(UnsafeCell::new(MaybeUninit::uninit())) }; LOCKS];

/// Not 0 when the module is about to leave. Whoever takes a turn after [`wait_for_all`] has had
/// it sees that.
static LEAVING: Atomic<i32> = Atomic::new(0);

/// Initialises the locks.
///
/// # Safety
///
/// Called once, before any turn is taken.
pub(crate) unsafe fn init() {
    for lock in &TURNS {
        // SAFETY: Nobody uses the lock yet, by this function's requirements.
        unsafe {
            bindings::__mutex_init(
                lock.0.get().cast(),
                c"iommu_live_turn".as_char_ptr(),
                static_lock_class!().as_ptr(),
            )
        };
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
    for lock in &TURNS {
        // SAFETY: Initialised, and not held by this thread, by this function's requirements; a
        // module's exit may sleep. It must not be cut short, so this is not the killable one.
        unsafe {
            bindings::mutex_lock(lock.0.get().cast());
            bindings::mutex_unlock(lock.0.get().cast());
        }
    }
}

/// A turn at one group.
///
/// # Invariants
///
/// This thread holds the lock; the marker keeps the turn from going to another.
pub(crate) struct Turn(&'static Lock, PhantomData<*mut ()>);

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
        let lock = TURNS
            .get(group.unsigned_abs() as usize % LOCKS)
            .unwrap_or(first);
        // SAFETY: Initialised, by this function's requirements; writers of sysfs files may sleep.
        to_result(unsafe { iommu_live_mutex_lock_killable(lock.0.get().cast()) })?;
        // INVARIANT: Just locked.
        Ok(Self(lock, PhantomData))
    }

    /// Whether a switch may begin.
    pub(crate) fn may_switch(&self) -> bool {
        LEAVING.load(Relaxed) == 0
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        // SAFETY: Held by this thread, by the type invariant.
        unsafe { bindings::mutex_unlock(self.0 .0.get().cast()) };
    }
}

// SPDX-License-Identifier: GPL-2.0-only

//! The cleaner: one work item that cleans up after tightens in all groups.
//!
//! It never blocks on a group's mutex or on a grace period, so no group delays another. A clean-up
//! that must block gets a work item of its own ([`cleanup::visit`]). While there is something to clean
//! up, the cleaner sleeps for a millisecond between two rounds.

use crate::{
    cleanup::{self, Cleanup},
    ffi::{
        iommu_live_cleaner_create, iommu_live_cleaner_destroy, iommu_live_nap,
        iommu_live_unwatch_devices, iommu_live_watch_devices,
    },
    private_structs::Group,
    registry,
};
use core::ptr::NonNull;
use kernel::bindings;
use kernel::prelude::*;

/// The work queue of the cleaner, and the notifier for devices that are removed.
///
/// # Invariants
///
/// If the flag is true, both exist.
pub(crate) struct Cleaner(bool);

impl Cleaner {
    /// Creates both. Fails with `ENOMEM`, or with the error of the driver core.
    ///
    /// # Safety
    ///
    /// Called once, when the module is loaded, after `registry::init`.
    pub(crate) unsafe fn create() -> Result<Self> {
        // SAFETY: A module's init may sleep and allocate.
        let error = unsafe { iommu_live_cleaner_create() };
        if error != 0 {
            return Err(Error::from_errno(error));
        }
        // SAFETY: As above. The notifier uses the registry, which the caller has initialised, by this
        // function's requirements.
        let error = unsafe { iommu_live_watch_devices() };
        if error != 0 {
            // SAFETY: Just created, and nothing has queued work.
            unsafe { iommu_live_cleaner_destroy() };
            return Err(Error::from_errno(error));
        }
        Ok(Self(true))
    }

    /// Stops the notifier, then waits for all queued work to finish. No work may be queued any more.
    pub(crate) fn leave(&mut self) {
        if !core::mem::replace(&mut self.0, false) {
            return;
        }
        // SAFETY: Both exist, by the type invariant. Each call waits for callbacks that are running.
        unsafe {
            iommu_live_unwatch_devices();
            iommu_live_cleaner_destroy();
        }
        registry::empty();
    }
}

impl Drop for Cleaner {
    fn drop(&mut self) {
        self.leave();
    }
}

/// The work function. The work queue never runs it concurrently with itself.
#[no_mangle]
extern "C" fn iommu_live_clean() {
    while round() {
        // SAFETY: A work item may sleep.
        unsafe { iommu_live_nap(1) };
    }
}

/// Visits the clean-ups that are under way. Returns whether any remain.
fn round() -> bool {
    let mut index = 0;
    // A clean-up that ends shifts those behind it down by one, so this round skips one of them.
    while let Some(cleanup) = registry::at(index) {
        if cleanup.is_under_way() {
            cleanup::visit(&cleanup);
        }
        index += 1;
    }
    // A writer that activates one after this look queues the work again.
    registry::find(Cleanup::is_under_way).is_some()
}

/// Called when a device has been unbound and is about to leave its group. Collects what late comers
/// left in armed rings: if this is the last device, the kernel frees the domain, and would leak it.
///
/// # Safety
///
/// `device` is a device that stays for the call, in a context that may sleep.
#[no_mangle]
unsafe extern "C" fn iommu_live_device_removed(device: *mut bindings::device) {
    // SAFETY: By this function's requirements.
    let Some(raw) = NonNull::new(unsafe { bindings::iommu_group_get(device) }) else {
        return;
    };
    {
        // SAFETY: The reference just taken.
        let group = unsafe { Group::from_raw(raw) };
        if registry::find(|cleanup| cleanup.is_active() && cleanup.is_of(group)).is_some() {
            cleanup::collect(&group.lock());
        }
    }
    // SAFETY: Ours.
    unsafe { bindings::iommu_group_put(raw.as_ptr()) };
}

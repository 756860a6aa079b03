// SPDX-License-Identifier: GPL-2.0-only

//! Who cleans up after tightens: one work item for all groups.
//!
//! It never waits for a group's mutex, and never for a grace period, so no group holds up another:
//! where a clean-up has to wait for its group, a work item of its own does ([`cleanup::visit`]).
//! Between two rounds it sleeps a millisecond, as long as there is something to clean up.

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

/// The cleaner, and who tells of devices that leave.
///
/// # Invariants
///
/// Both are there until [`Self::leave`].
pub(crate) struct Cleaner(bool);

impl Cleaner {
    /// Makes it. `ENOMEM`, or what the driver core answers.
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
        // SAFETY: As above. The registry is there, which the notifier looks at, by this function's
        // requirements.
        let error = unsafe { iommu_live_watch_devices() };
        if error != 0 {
            // SAFETY: Just made, and nobody has woken it.
            unsafe { iommu_live_cleaner_destroy() };
            return Err(Error::from_errno(error));
        }
        Ok(Self(true))
    }

    /// Waits until it has left the module, and all other work of its queue with it. Nobody may wake it
    /// any more.
    pub(crate) fn leave(&mut self) {
        if !core::mem::replace(&mut self.0, false) {
            return;
        }
        // SAFETY: Both are there, by the type invariant. Each waits for who is inside.
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

/// The work. Not run twice at the same time.
#[no_mangle]
extern "C" fn iommu_live_clean() {
    while round() {
        // SAFETY: A work item may sleep.
        unsafe { iommu_live_nap(1) };
    }
}

/// Visits every clean-up. Whether there is one to be visited again.
fn round() -> bool {
    let mut index = 0;
    // One that ends moves those behind it down: one of them is then left out of this round.
    while let Some(cleanup) = registry::at(index) {
        if cleanup.is_under_way() {
            cleanup::visit(&cleanup);
        }
        index += 1;
    }
    // Whoever activates one after this wakes the cleaner after this.
    registry::find(Cleanup::is_under_way).is_some()
}

/// A device has left its driver, and is about to leave its group. If it is the last one, the domain
/// goes with it; what late comers left in armed rings, the kernel would not find.
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

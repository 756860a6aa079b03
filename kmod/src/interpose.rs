// SPDX-License-Identifier: GPL-2.0-only

//! Takes over the `store` of the existing `type` attribute, so that a plain
//! `echo DMA > /sys/kernel/iommu_groups/N/type` becomes live.

use crate::{
    cleaner::Cleaner,
    ffi::iommu_live_nap,
    grace_period::GracePeriod,
    kernfs::Node,
    layout::iommu_group_attribute as attribute,
    protocol::{self, Exit},
    symbol,
    type_store::{Store, Write},
    writer_lock,
};
use core::{
    ffi::c_void,
    ptr::{null_mut, NonNull},
};
use kernel::prelude::*;
use kernel::sync::atomic::{Acquire, Atomic, Full, Relaxed, Release};
use kernel::{bindings, ffi::c_char, str::CString};

/// The kernel's own store, `iommu_group_store_type()`. Set before ours can be called.
static ORIGINAL: Atomic<*mut c_void> = Atomic::new(null_mut());

/// Writers inside [`store`], calls passed on included.
static IN_FLIGHT: Atomic<i64> = Atomic::new(0);

extern "C" {
    fn iommu_live_is_writable(address: *const c_void) -> bool;
}

/// Group numbers tried when looking for one that exists. They are handed out from 0 upwards.
const GROUP_NUMBERS: u32 = 1 << 16;

/// Our `store` in place of the kernel's.
///
/// # Invariants
///
/// `slot` is the `store` field of the kernel's `iommu_group_attr_type`, which is static.
pub(crate) struct Interposer {
    slot: &'static Atomic<*mut c_void>,
    cleaner: Cleaner,
    /// For the exit, which must not need memory.
    grace: GracePeriod,
}

impl Interposer {
    /// Finds the attribute and takes it over. Called once, when the module is loaded, after
    /// `registry::init`.
    ///
    /// # Errors
    ///
    /// `ENODEV` without any IOMMU group, `EBUSY` if the attribute's `store` is not the kernel's
    /// own, `ENOEXEC` if it is not the attribute that was expected, `EROFS` if the kernel keeps it
    /// where nobody may write, `ENOMEM`.
    pub(crate) fn install() -> Result<Self> {
        let slot = find_store()?;
        let original = slot.load(Relaxed);
        if !symbol::is(original, "iommu_group_store_type") {
            pr_err!("the store of iommu_groups/*/type is not the kernel's own\n");
            return Err(EBUSY);
        }
        // The exchange below would oops there. It does not become so later: the kernel protects its
        // image before it starts user space.
        // SAFETY: For any address.
        if !unsafe { iommu_live_is_writable(slot.as_ptr().cast()) } {
            pr_err!("the store of iommu_groups/*/type is read-only in this kernel: it cannot be replaced\n");
            return Err(EROFS);
        }
        // SAFETY: Once, as this function, and after `registry::init`.
        let cleaner = unsafe { Cleaner::create() }?;
        let grace = GracePeriod::new()?;
        ORIGINAL.store(original, Relaxed);
        // SAFETY: Once, as this function; no writer can reach `store` yet.
        unsafe { writer_lock::init() };
        slot.cmpxchg(original, store as Store as *mut c_void, Full)
            .map_err(|_| EBUSY)?;
        // INVARIANT: `find_store` found the slot.
        Ok(Self {
            slot,
            cleaner,
            grace,
        })
    }
}

impl Drop for Interposer {
    fn drop(&mut self) {
        protocol::leave(self);
    }
}

impl Exit for Interposer {
    fn wait_for_cleaner(&mut self) {
        self.cleaner.leave();
    }

    fn restore_store(&mut self) {
        let original = ORIGINAL.load(Relaxed);
        // A module's exit cannot refuse. If somebody has stacked a store above ours, they hold a
        // pointer to our text, and we stay until they have put it back. Whether their own writers
        // are done with it by then is for them to see to; nothing here could tell.
        wait_until("another module took over iommu_groups/*/type", || {
            self.slot
                .cmpxchg(store as Store as *mut c_void, original, Full)
                .is_ok()
        });
    }

    fn wait_for_readers(&mut self) {
        self.grace.begin();
        wait_until("a task is in the kernel and does not sleep", || {
            self.grace.is_over()
        });
    }

    fn wait_for_writers(&mut self) {
        wait_until("a write of iommu_groups/*/type does not end", || {
            IN_FLIGHT.load(Acquire) == 0
        });
    }
}

/// Waits for `done`, and says what it waits for when that takes long.
fn wait_until(obstacle: &'static str, mut done: impl FnMut() -> bool) {
    const STEP_MS: u32 = 5;
    const TELL_AFTER: u32 = 10_000 / STEP_MS;
    let mut steps = 0u32;
    while !done() {
        steps = steps.wrapping_add(1);
        if steps == TELL_AFTER {
            pr_warn!("cannot be unloaded yet: {}\n", obstacle);
        }
        // SAFETY: A module's exit may sleep.
        unsafe { iommu_live_nap(STEP_MS) };
    }
}

/// The `store` field of the attribute behind `iommu_groups/*/type`.
fn find_store() -> Result<&'static Atomic<*mut c_void>> {
    let Some(groups) = Node::in_sys_kernel(c"iommu_groups") else {
        pr_err!("no /sys/kernel/iommu_groups: this kernel has no IOMMU support\n");
        return Err(ENODEV);
    };
    for number in 0..GROUP_NUMBERS {
        let name = CString::try_from_fmt(fmt!("{number}"))?;
        let Some(node) = groups.child(&name).and_then(|group| group.child(c"type")) else {
            continue;
        };
        let Some(found) = node.attribute(c"type") else {
            pr_err!(
                "iommu_groups/{}/type is not the attribute it should be\n",
                number
            );
            return Err(ENOEXEC);
        };
        // SAFETY: The files of a group are made by `iommu_group_create_file()`, so the attribute
        // is embedded in a `struct iommu_group_attribute`, a static one for `type`. Writers read
        // its `store` without a lock and plainly, but by one aligned load; nobody else writes it.
        return Ok(unsafe {
            let field = found
                .as_ptr()
                .byte_sub(attribute::ATTR)
                .byte_add(attribute::STORE);
            Atomic::from_ptr(field.cast())
        });
    }
    pr_err!("no IOMMU group: the IOMMU is off or absent, there is nothing to switch\n");
    Err(ENODEV)
}

/// Our `store`.
///
/// # Safety
///
/// Called as `iommu_group_attribute::store`: the group stays for the call (sysfs removes the file
/// before the group goes, and waits for its writers), and `buf` is a NUL-terminated string.
unsafe extern "C" fn store(
    group: *mut bindings::iommu_group,
    buf: *const c_char,
    count: usize,
) -> isize {
    // Full: what `install` wrote before it published this function is seen below.
    IN_FLIGHT.fetch_add(1, Full);
    let written = match (NonNull::new(group), NonNull::new(ORIGINAL.load(Relaxed))) {
        (Some(group), Some(original)) => {
            // SAFETY: By this function's requirements. `original` is the kernel's own store, and
            // `writer_lock::init` was called, both before this function could be reached.
            unsafe {
                let original = core::mem::transmute::<NonNull<c_void>, Store>(original);
                Write::new(group, buf, count, original).run()
            }
        }
        _ => EINVAL.to_errno() as isize,
    };
    IN_FLIGHT.fetch_sub(1, Release);
    written
}

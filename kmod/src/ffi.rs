// SPDX-License-Identifier: GPL-2.0-only

//! C functions that the kernel's bindings do not have: those of `helpers.c`, and exported functions
//! of headers that the bindings leave out.

use crate::private_structs::{FlushQueue, IovaDomain};
use core::ffi::c_void;
use kernel::{bindings, ffi::c_char};

/// `struct iommu_live_grace` of `helpers.h`.
#[repr(transparent)]
pub(crate) struct Grace(c_void);

/// `kobj_attribute::show`.
pub(crate) type Show = unsafe extern "C" fn(
    *mut bindings::kobject,
    *mut bindings::kobj_attribute,
    *mut c_char,
) -> isize;

// Only pointers to these structures are passed on; kernels with lockdep have no empty ones.
#[allow(
    improper_ctypes,
    reason = "structures of the kernel that are empty in C"
)]
extern "C" {
    // helpers.c
    pub(crate) static iommu_live_version: c_char;
    pub(crate) fn iommu_live_bh_disable();
    pub(crate) fn iommu_live_bh_enable();
    pub(crate) fn iommu_live_cleaner_create() -> i32;
    pub(crate) fn iommu_live_cleaner_destroy();
    pub(crate) fn iommu_live_cleaner_kick();
    pub(crate) fn iommu_live_cleaner_queue() -> *mut bindings::workqueue_struct;
    pub(crate) fn iommu_live_cond_resched();
    pub(crate) fn iommu_live_count_strict_entry();
    pub(crate) fn iommu_live_strict_entries() -> u64;
    /// `buf` has `TASK_COMM_LEN` bytes.
    pub(crate) fn iommu_live_current_comm(buf: *mut u8);
    pub(crate) fn iommu_live_current_login_uid() -> u32;
    pub(crate) fn iommu_live_current_started_ns() -> u64;
    pub(crate) fn iommu_live_current_tgid() -> i32;
    pub(crate) fn iommu_live_current_uid() -> u32;
    pub(crate) fn iommu_live_dev_is_untrusted(dev: *mut bindings::device) -> bool;
    pub(crate) fn iommu_live_grace_alloc() -> *mut Grace;
    pub(crate) fn iommu_live_grace_begin(grace: *mut Grace, tasks: bool);
    pub(crate) fn iommu_live_grace_free(grace: *mut Grace);
    pub(crate) fn iommu_live_grace_over(grace: *mut Grace) -> bool;
    /// Says that memory is not lost although nobody points to it.
    pub(crate) fn iommu_live_keeps(memory: *const c_void);
    pub(crate) fn iommu_live_list_move(
        from: *mut bindings::list_head,
        to: *mut bindings::list_head,
    );
    pub(crate) fn iommu_live_lock_is_free(lock: *mut bindings::spinlock_t) -> bool;
    pub(crate) fn iommu_live_may_report_denied() -> bool;
    pub(crate) fn iommu_live_module_get() -> bool;
    pub(crate) fn iommu_live_module_put();
    pub(crate) fn iommu_live_mutex_lock_killable(lock: *mut bindings::mutex) -> i32;
    pub(crate) fn iommu_live_mutex_trylock(lock: *mut bindings::mutex) -> bool;
    pub(crate) fn iommu_live_nap(ms: u32);
    pub(crate) fn iommu_live_next_possible_cpu(cpu: i32) -> i32;
    pub(crate) fn iommu_live_per_cpu_ptr(ptr: *mut FlushQueue, cpu: i32) -> *mut FlushQueue;
    pub(crate) fn iommu_live_run_delay() -> u64;
    /// bindgen's name of the member depends on the kernel: since 7.3 it is in an anonymous union.
    pub(crate) fn iommu_live_set_show(attribute: *mut bindings::kobj_attribute, show: Show);
    pub(crate) fn iommu_live_spin_lock(lock: *mut bindings::spinlock_t) -> usize;
    pub(crate) fn iommu_live_spin_unlock(lock: *mut bindings::spinlock_t, flags: usize);
    pub(crate) fn iommu_live_unwatch_devices();
    pub(crate) fn iommu_live_warn(what: *const c_char, group: i32);
    pub(crate) fn iommu_live_watch_devices() -> i32;

    // drivers/iommu/iova.c
    pub(crate) fn free_iova_fast(iovad: *mut IovaDomain, pfn: usize, size: usize);
    // drivers/iommu/iommu-pages.c
    /// `list` is a `struct iommu_pages_list`, which is a list head and nothing else.
    pub(crate) fn iommu_put_pages_list(list: *mut bindings::list_head);
}

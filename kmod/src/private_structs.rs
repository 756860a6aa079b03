// SPDX-License-Identifier: GPL-2.0-only

//! Typed views of the kernel's private IOMMU structures.
//!
//! All pointer arithmetic with [`layout`] happens here; lifetimes tie each view to what keeps
//! the structure alive and unchanged, which is the group's mutex.

use crate::{
    counters,
    ffi::{iommu_live_mutex_lock_killable, iommu_live_mutex_trylock, iommu_live_run_delay},
    layout,
    unmap_table::Operations,
};
use core::{cell::UnsafeCell, ffi::c_void, marker::PhantomData, ptr::NonNull};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed, Release};

// The public structures, as the Rust bindings see them, must be those of the target's BTF:
// the two come from different files of the same kernel package.
const _: () = {
    use core::mem::{offset_of, size_of};
    assert!(layout::iommu_domain::SIZE == size_of::<bindings::iommu_domain>());
    assert!(layout::iommu_domain::TYPE == offset_of!(bindings::iommu_domain, type_));
    assert!(layout::iommu_domain::OPS == offset_of!(bindings::iommu_domain, ops));
    assert!(layout::iommu_domain_ops::SIZE == size_of::<bindings::iommu_domain_ops>());
    assert!(
        layout::iommu_domain_ops::UNMAP_PAGES
            == offset_of!(bindings::iommu_domain_ops, unmap_pages)
    );
    assert!(layout::iommu_iotlb_gather::SIZE == size_of::<bindings::iommu_iotlb_gather>());
    assert!(layout::iommu_iotlb_gather::QUEUED == offset_of!(bindings::iommu_iotlb_gather, queued));
    assert!(layout::timer_list::SIZE == size_of::<bindings::timer_list>());
    assert!(layout::timer_list::FUNCTION == offset_of!(bindings::timer_list, function));
};

/// `struct iova_fq`, a ring of a flush queue; [`crate::ring`] knows what is in it.
#[repr(transparent)]
pub(crate) struct FlushQueue(c_void);

/// `struct iova_domain`.
#[repr(transparent)]
pub(crate) struct IovaDomain(c_void);

/// What the flush timer calls.
pub(crate) type TimerFunction = unsafe extern "C" fn(*mut bindings::timer_list);

/// The field of type `T` at `offset` bytes from `base`.
///
/// # Safety
///
/// `base` points to a structure that has a `T` at `offset`.
pub(crate) unsafe fn field<T, S>(base: NonNull<S>, offset: usize) -> *mut T {
    // SAFETY: In bounds of one object by this function's requirements.
    unsafe { base.as_ptr().byte_add(offset).cast() }
}

/// A `struct iommu_group`.
///
/// # Invariants
///
/// The pointer is a group, and its memory, name and parent stay for `'a`: a write of one of its
/// files is in progress, or somebody holds a reference. (A writer holds no reference of the kobject
/// but the file's active reference; a group that goes first removes its files, which waits for
/// their writers.)
#[derive(Clone, Copy)]
pub(crate) struct Group<'a>(
    NonNull<bindings::iommu_group>,
    PhantomData<&'a bindings::iommu_group>,
);

impl<'a> Group<'a> {
    /// # Safety
    ///
    /// `group` is a `struct iommu_group`; for `'a` a write of one of its files is in progress, or
    /// somebody holds a reference.
    pub(crate) unsafe fn from_raw(group: NonNull<bindings::iommu_group>) -> Self {
        // INVARIANT: The caller promises it.
        Self(group, PhantomData)
    }

    /// The group itself, for the kernel's own functions.
    pub(crate) fn as_ptr(self) -> NonNull<bindings::iommu_group> {
        self.0
    }

    /// The group's number.
    pub(crate) fn id(self) -> i32 {
        // SAFETY: A group by the type invariant; `id` never changes once it is registered.
        unsafe { field::<i32, _>(self.0, layout::iommu_group::ID).read() }
    }

    /// The group's kobject, for uevents.
    pub(crate) fn kobject(self) -> *mut bindings::kobject {
        // SAFETY: A group by the type invariant.
        unsafe { field(self.0, layout::iommu_group::KOBJ) }
    }

    fn mutex(self) -> *mut bindings::mutex {
        // SAFETY: A group by the type invariant.
        unsafe { field(self.0, layout::iommu_group::MUTEX) }
    }

    /// Locks `group->mutex`. Sleeps, and may be held up for as long as whoever has it likes.
    pub(crate) fn lock(self) -> LockedGroup<'a> {
        // SAFETY: A group by the type invariant, so its mutex is initialised; callers may sleep.
        unsafe { bindings::mutex_lock(self.mutex()) };
        // INVARIANT: Just locked.
        LockedGroup::now(self)
    }

    /// The same, until the task is killed: `EINTR` then.
    pub(crate) fn lock_killable(self) -> Result<LockedGroup<'a>> {
        // SAFETY: As in `lock`.
        if unsafe { iommu_live_mutex_lock_killable(self.mutex()) } != 0 {
            return Err(EINTR);
        }
        // INVARIANT: Just locked.
        Ok(LockedGroup::now(self))
    }

    /// The same, if nobody has it.
    pub(crate) fn try_lock(self) -> Option<LockedGroup<'a>> {
        // SAFETY: As in `lock`, but that it does not sleep.
        // INVARIANT: Just locked.
        unsafe { iommu_live_mutex_trylock(self.mutex()) }.then(|| LockedGroup::now(self))
    }
}

/// A reference to a group.
///
/// To drop it may mean to remove the group's files, which waits for everybody who writes one of
/// them. So a writer must not, nor may it wait for somebody who does.
///
/// # Invariants
///
/// The pointer is a `struct iommu_group` of which this holds a reference.
pub(crate) struct KeptGroup(NonNull<bindings::iommu_group>);

// SAFETY: A reference may be put by any thread that may sleep.
unsafe impl Send for KeptGroup {}

impl Drop for KeptGroup {
    fn drop(&mut self) {
        // SAFETY: The reference is ours, by the type invariant.
        unsafe { bindings::iommu_group_put(self.0.as_ptr()) };
    }
}

/// Nanoseconds on the monotonic clock.
pub(crate) fn now_ns() -> i64 {
    // SAFETY: May be called anywhere.
    unsafe { bindings::ktime_get() }
}

/// A group with its mutex held. How long is noted, less the time in which this thread waited for a
/// CPU.
///
/// # Invariants
///
/// This thread holds `group->mutex` until the value is dropped. (It cannot be sent to another one,
/// nor shared with one: it has a pointer.)
pub(crate) struct LockedGroup<'a> {
    group: Group<'a>,
    since: i64,
    delay: u64,
}

impl<'a> LockedGroup<'a> {
    fn now(group: Group<'a>) -> Self {
        // SAFETY: It looks at the current task.
        let delay = unsafe { iommu_live_run_delay() };
        // INVARIANT: All callers have just locked it.
        Self {
            group,
            since: now_ns(),
            delay,
        }
    }

    /// The group.
    pub(crate) fn group(&self) -> Group<'a> {
        self.group
    }
}

impl Drop for LockedGroup<'_> {
    fn drop(&mut self) {
        // SAFETY: It looks at the current task.
        let delay = unsafe { iommu_live_run_delay() }.wrapping_sub(self.delay);
        let held = now_ns().wrapping_sub(self.since).unsigned_abs();
        counters::LONGEST_HOLD_NS.raise_to(held.saturating_sub(delay));
        // SAFETY: Locked by this thread, by the type invariant.
        unsafe { bindings::mutex_unlock(self.group.mutex()) };
    }
}

/// Something that a group's mutex guards. It changes through shared references, as a `Cell` does.
///
/// # Invariants
///
/// References to the value are only made while a [`LockedGroup`] of `group` is borrowed.
pub(crate) struct GroupCell<T> {
    group: NonNull<bindings::iommu_group>,
    value: UnsafeCell<T>,
}

// SAFETY: By the type invariant, only the thread that holds the mutex has references to the value,
// and a `LockedGroup` stays on its thread. So the value goes from thread to thread, whole.
unsafe impl<T: Send> Sync for GroupCell<T> {}
// SAFETY: The group is only compared with. The value may be sent.
unsafe impl<T: Send> Send for GroupCell<T> {}

impl<T> GroupCell<T> {
    /// Guarded by the mutex of `group`, which need not stay: it is only compared with.
    pub(crate) fn new(group: NonNull<bindings::iommu_group>, value: T) -> Self {
        Self {
            group,
            value: UnsafeCell::new(value),
        }
    }

    /// Whether it is this group's.
    pub(crate) fn is_of(&self, group: Group<'_>) -> bool {
        self.group == group.as_ptr()
    }

    /// The value; `None` if another group's mutex is held.
    pub(crate) fn get<'l>(&'l self, locked: &'l LockedGroup<'_>) -> Option<&'l T> {
        if !self.is_of(locked.group()) {
            return None;
        }
        // INVARIANT: `locked` is borrowed for `'l`.
        // SAFETY: Its mutex is held for `'l`, so no other thread has a reference; this thread has
        // shared ones only.
        Some(unsafe { &*self.value.get() })
    }
}

impl LockedGroup<'_> {
    /// A reference that outlasts the write; `None` if the group has no device, and may be on its
    /// way out already.
    pub(crate) fn keep(&self) -> Option<KeptGroup> {
        self.any_device(|_| true).then(|| {
            // SAFETY: A group by the type invariant. A device that is on its list has a reference
            // of it, which is put only after the device left the list under the mutex held
            // (`__iommu_group_remove_device()`), so there is one to be had.
            unsafe { bindings::iommu_group_ref_get(self.group.0.as_ptr()) };
            // INVARIANT: Just taken.
            KeptGroup(self.group.0)
        })
    }

    /// The default domain, if the group has one.
    pub(crate) fn default_domain(&self) -> Option<Domain<'_>> {
        // SAFETY: A group by the type invariant; the field changes only under the mutex.
        let domain = unsafe {
            field::<*mut bindings::iommu_domain, _>(
                self.group.0,
                layout::iommu_group::DEFAULT_DOMAIN,
            )
            .read()
        };
        // INVARIANT: The default domain of a group whose mutex is held as long as `self` lives.
        NonNull::new(domain).map(|domain| Domain(domain, PhantomData))
    }

    /// Whether `test` holds for any device of the group.
    pub(crate) fn any_device(&self, test: impl Fn(*mut bindings::device) -> bool) -> bool {
        // SAFETY: A group by the type invariant.
        let head: *mut bindings::list_head =
            unsafe { field(self.group.0, layout::iommu_group::DEVICES) };
        // SAFETY: An initialised list, which changes only under the mutex held.
        let mut node = unsafe { (*head).next };
        while node != head {
            // SAFETY: A node other than the head is the `list` of a `struct group_device`, whose
            // `dev` is allocated, with its `iommu` data, as long as the node is on the list.
            let device = unsafe {
                node.byte_sub(layout::group_device::LIST)
                    .byte_add(layout::group_device::DEV)
                    .cast::<*mut bindings::device>()
                    .read()
            };
            if test(device) {
                return true;
            }
            // SAFETY: As above.
            node = unsafe { (*node).next };
        }
        false
    }
}

/// A `struct iommu_domain`.
///
/// # Invariants
///
/// The default domain of a group whose mutex is held for `'a`: it is neither freed nor replaced.
#[derive(Clone, Copy)]
pub(crate) struct Domain<'a>(
    NonNull<bindings::iommu_domain>,
    PhantomData<&'a bindings::iommu_domain>,
);

impl<'a> Domain<'a> {
    fn type_field(self) -> &'a Atomic<u32> {
        // SAFETY: A domain by the type invariant. The kernel reads the field without a lock, plainly
        // (`__iommu_unmap()` looks at one bit that does not change): one aligned load.
        unsafe { Atomic::from_ptr(field(self.0, layout::iommu_domain::TYPE)) }
    }

    /// `domain->type`, one of `bindings::IOMMU_DOMAIN_*`.
    pub(crate) fn domain_type(self) -> u32 {
        self.type_field().load(Relaxed)
    }

    /// Changes what `type` reads as. No protection follows from it.
    pub(crate) fn set_domain_type(self, domain_type: u32) {
        self.type_field().store(domain_type, Relaxed);
    }

    /// Whether it uses the generic page table.
    pub(crate) fn is_iommupt(self) -> bool {
        // SAFETY: A domain by the type invariant; the field is set once, when it is made.
        unsafe { field::<u8, _>(self.0, layout::iommu_domain::IS_IOMMUPT).read() != 0 }
    }

    /// The pointer to the domain's `struct iommu_domain_ops`.
    pub(crate) fn ops(self) -> &'a Atomic<*mut Operations> {
        // SAFETY: A domain by the type invariant. Unmaps load the pointer without a lock and
        // plainly: one aligned load, which a test looks for in the kernel's code.
        unsafe { Atomic::from_ptr(field(self.0, layout::iommu_domain::OPS)) }
    }

    /// The pointer to the page table's `struct pt_iommu_ops`, if it is a generic page table.
    pub(crate) fn pt_ops(self) -> Option<&'a Atomic<*mut Operations>> {
        self.is_iommupt().then(|| {
            // SAFETY: `is_iommupt` says that the domain is embedded in a `struct pt_iommu`; see
            // `iommupt_from_domain()` in include/linux/generic_pt/iommu.h. As for `ops`.
            unsafe {
                let pt = self.0.as_ptr().byte_sub(layout::pt_iommu::DOMAIN);
                Atomic::from_ptr(pt.byte_add(layout::pt_iommu::OPS).cast())
            }
        })
    }

    /// The function at `offset` bytes in the operations table that `table` points to; NULL
    /// without a table.
    ///
    /// # Safety
    ///
    /// `table` is [`Self::ops`] or [`Self::pt_ops`], with a function pointer at `offset`.
    pub(crate) unsafe fn entry(table: &Atomic<*mut Operations>, offset: usize) -> *const c_void {
        NonNull::new(table.load(Relaxed)).map_or(core::ptr::null(), |table| {
            // SAFETY: Constant memory of the kernel or of the IOMMU driver, by this function's
            // requirements.
            unsafe { field::<*const c_void, _>(table, offset).read() }
        })
    }

    /// The domain itself, to compare with.
    pub(crate) fn as_ptr(self) -> *mut bindings::iommu_domain {
        self.0.as_ptr()
    }

    /// The DMA-API cookie, if that is what the domain carries (the pointer is in a union).
    pub(crate) fn dma_cookie(self) -> Option<Cookie<'a>> {
        // SAFETY: A domain by the type invariant; the cookie is set when the domain becomes a
        // default domain, under the group's mutex.
        let (kind, cookie) = unsafe {
            (
                field::<u32, _>(self.0, layout::iommu_domain::COOKIE_TYPE).read(),
                field::<*mut bindings::iommu_dma_cookie, _>(
                    self.0,
                    layout::iommu_domain::IOVA_COOKIE,
                )
                .read(),
            )
        };
        if kind != layout::iommu_domain_cookie_type::IOMMU_COOKIE_DMA_IOVA {
            return None;
        }
        // INVARIANT: The cookie type says what the union holds; it lives as long as the domain.
        NonNull::new(cookie).map(|cookie| Cookie(cookie, PhantomData))
    }
}

/// A `struct iommu_dma_cookie`.
///
/// # Invariants
///
/// The DMA-API cookie of a domain as [`Domain`] describes, for the same `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Cookie<'a>(
    NonNull<bindings::iommu_dma_cookie>,
    PhantomData<&'a bindings::iommu_dma_cookie>,
);

/// The rings of a flush queue.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rings {
    /// One for each possible CPU; a per-CPU pointer.
    PerCpu(*mut FlushQueue),
    /// One for all.
    Single(*mut FlushQueue),
}

impl<'a> Cookie<'a> {
    /// The domain whose unmaps are queued, NULL for a strict domain.
    pub(crate) fn fq_domain(self) -> &'a Atomic<*mut bindings::iommu_domain> {
        // SAFETY: A cookie by the type invariant; every unmap samples this with READ_ONCE().
        unsafe { Atomic::from_ptr(field(self.0, layout::iommu_dma_cookie::FQ_DOMAIN)) }
    }

    /// What its IOVAs come from.
    pub(crate) fn iova_domain(self) -> *mut IovaDomain {
        // SAFETY: A cookie by the type invariant.
        unsafe { field(self.0, layout::iommu_dma_cookie::IOVAD) }
    }

    /// How many flushes of the whole IOTLB have been started for the flush queue.
    pub(crate) fn flushes(self) -> u64 {
        // SAFETY: A cookie by the type invariant; the kernel changes it with atomic operations.
        let count: &Atomic<i64> = unsafe {
            Atomic::from_ptr(field(self.0, layout::iommu_dma_cookie::FQ_FLUSH_START_CNT))
        };
        count.load(Relaxed) as u64
    }

    /// The flush timer.
    pub(crate) fn timer(self) -> *mut bindings::timer_list {
        // SAFETY: A cookie by the type invariant.
        unsafe { field(self.0, layout::iommu_dma_cookie::FQ_TIMER) }
    }

    /// Whether somebody is about to arm the timer, or has: 1 if so.
    fn timer_on(self) -> &'a Atomic<i32> {
        // SAFETY: A cookie by the type invariant; the kernel changes it with atomic operations.
        unsafe { Atomic::from_ptr(field(self.0, layout::iommu_dma_cookie::FQ_TIMER_ON)) }
    }

    /// What the flush timer calls; `None` if it was never set up or is shut down.
    pub(crate) fn timer_function(self) -> Option<TimerFunction> {
        // SAFETY: A cookie by the type invariant; its timer's function changes only in
        // `timer_setup()` and `timer_shutdown_sync()`, both under the group's mutex.
        unsafe { (*self.timer()).function }
    }

    /// Keeps those who queue from arming the timer, and stops it. Whoever was about to arm it may still
    /// do so once.
    pub(crate) fn stop_timer(self) {
        self.timer_on().store(1, Relaxed);
        // SAFETY: The cookie's flush timer, which has been set up; this context may sleep and holds no
        // lock that `fq_flush_timeout()` takes.
        unsafe { bindings::timer_delete_sync(self.timer()) };
        // It clears this when it runs.
        self.timer_on().store(1, Relaxed);
    }

    /// Stops the timer, if somebody armed it nevertheless.
    pub(crate) fn stop_stray_timer(self) {
        // SAFETY: As in `stop_timer`.
        if unsafe { bindings::timer_delete(self.timer()) } != 0 {
            self.timer_on().store(1, Relaxed);
        }
    }

    /// Ends the timer. From here on nobody arms it.
    pub(crate) fn shut_down_timer(self) {
        self.timer_on().store(1, Relaxed);
        // SAFETY: The cookie's flush timer; this context may sleep and holds no lock that
        // `fq_flush_timeout()` takes.
        unsafe { bindings::timer_shutdown_sync(self.timer()) };
    }

    /// Lets those who queue arm the timer again, after [`Self::stop_timer`] or
    /// [`Self::shut_down_timer`].
    ///
    /// # Safety
    ///
    /// It was set up with `function`.
    pub(crate) unsafe fn allow_timer(self, function: TimerFunction) {
        // SAFETY: A cookie by the type invariant. To shut a timer down is to set this to NULL, once
        // it is in no list (`timer_shutdown_sync()`); `timer_setup()` would also write what an unmap
        // that arms it at the same moment reads. `Option<TimerFunction>` is a pointer.
        let field: &Atomic<*mut c_void> =
            unsafe { Atomic::from_ptr((&raw mut (*self.timer()).function).cast()) };
        // Release, both times: a timer that runs because somebody found the function follows
        // `fq_domain`, and who sees that it may be armed finds the function.
        field.store(function as *mut c_void, Release);
        self.timer_on().store(0, Release);
    }

    fn ring_field(self) -> *mut *mut FlushQueue {
        const { assert!(layout::iommu_dma_cookie::PERCPU_FQ == layout::iommu_dma_cookie::SINGLE_FQ) };
        // SAFETY: A cookie by the type invariant.
        unsafe { field(self.0, layout::iommu_dma_cookie::PERCPU_FQ) }
    }

    /// The rings; `None` if there are none or they are of an unknown kind.
    pub(crate) fn rings(self) -> Option<Rings> {
        use layout::iommu_dma_queue_type as kind;
        // SAFETY: A cookie by the type invariant; both fields change under the group's mutex.
        let (pointer, queue_type) = unsafe {
            let options = layout::iommu_dma_cookie::OPTIONS + layout::iommu_dma_options::QT;
            (
                self.ring_field().read(),
                field::<u32, _>(self.0, options).read(),
            )
        };
        match queue_type {
            _ if pointer.is_null() => None,
            kind::IOMMU_DMA_OPTS_PER_CPU_QUEUE => Some(Rings::PerCpu(pointer)),
            kind::IOMMU_DMA_OPTS_SINGLE_QUEUE => Some(Rings::Single(pointer)),
            _ => None,
        }
    }

    /// Forgets the rings.
    ///
    /// # Safety
    ///
    /// Nobody can reach them any more.
    pub(crate) unsafe fn forget_rings(self) {
        // SAFETY: A cookie by the type invariant; no reader by this function's requirements.
        unsafe { self.ring_field().write(core::ptr::null_mut()) };
    }
}

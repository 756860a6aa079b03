// SPDX-License-Identifier: GPL-2.0-only

//! Typed views of the kernel's private IOMMU structures.
//!
//! All pointer arithmetic with [`layout`] happens here; lifetimes tie each view to what keeps
//! the structure alive and unchanged, which is the group's mutex.

use crate::layout;
use core::{ffi::c_void, marker::PhantomData, ptr::NonNull};
use kernel::bindings;
use kernel::sync::atomic::{Atomic, Relaxed};

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

/// What the flush timer calls.
pub(crate) type TimerFunction = unsafe extern "C" fn(*mut bindings::timer_list);

/// The field of type `T` at `offset` bytes from `base`.
///
/// # Safety
///
/// `base` points to a structure that has a `T` at `offset`.
unsafe fn field<T>(base: NonNull<c_void>, offset: usize) -> *mut T {
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
pub(crate) struct Group<'a>(NonNull<c_void>, PhantomData<&'a c_void>);

impl<'a> Group<'a> {
    /// # Safety
    ///
    /// `group` is a `struct iommu_group`; for `'a` a write of one of its files is in progress, or
    /// somebody holds a reference.
    pub(crate) unsafe fn from_raw(group: NonNull<c_void>) -> Self {
        // INVARIANT: The caller promises it.
        Self(group, PhantomData)
    }

    /// The group itself, for the kernel's own functions.
    pub(crate) fn as_ptr(self) -> *mut c_void {
        self.0.as_ptr()
    }

    /// The group's number.
    pub(crate) fn id(self) -> i32 {
        // SAFETY: A group by the type invariant; `id` never changes once it is registered.
        unsafe { field::<i32>(self.0, layout::iommu_group::ID).read() }
    }

    /// The group's kobject, for uevents.
    pub(crate) fn kobject(self) -> *mut bindings::kobject {
        // SAFETY: A group by the type invariant.
        unsafe { field(self.0, layout::iommu_group::KOBJ) }
    }

    /// Locks `group->mutex`. Sleeps.
    pub(crate) fn lock(self) -> LockedGroup<'a> {
        // SAFETY: A group by the type invariant, so its mutex is initialised; the caller is a
        // writer of a sysfs attribute or a worker, which may sleep.
        unsafe { bindings::mutex_lock(field(self.0, layout::iommu_group::MUTEX)) };
        // INVARIANT: Just locked.
        LockedGroup(self)
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
pub(crate) struct KeptGroup(NonNull<c_void>);

// SAFETY: A reference may be put by any thread that may sleep.
unsafe impl Send for KeptGroup {}

impl Drop for KeptGroup {
    fn drop(&mut self) {
        // SAFETY: The reference is ours, by the type invariant.
        unsafe { bindings::iommu_group_put(self.0.as_ptr().cast()) };
    }
}

/// A group with its mutex held.
///
/// # Invariants
///
/// This thread holds `group->mutex` until the value is dropped.
pub(crate) struct LockedGroup<'a>(Group<'a>);

impl Drop for LockedGroup<'_> {
    fn drop(&mut self) {
        // SAFETY: Locked by this thread, by the type invariant.
        unsafe { bindings::mutex_unlock(field(self.0 .0, layout::iommu_group::MUTEX)) };
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
            unsafe { bindings::iommu_group_ref_get(self.0 .0.as_ptr().cast()) };
            // INVARIANT: Just taken.
            KeptGroup(self.0 .0)
        })
    }

    /// The default domain, if the group has one.
    pub(crate) fn default_domain(&self) -> Option<Domain<'_>> {
        // SAFETY: A group by the type invariant; the field changes only under the mutex.
        let domain =
            unsafe { field::<*mut c_void>(self.0 .0, layout::iommu_group::DEFAULT_DOMAIN).read() };
        // INVARIANT: The default domain of a group whose mutex is held as long as `self` lives.
        NonNull::new(domain).map(|domain| Domain(domain, PhantomData))
    }

    /// Whether `test` holds for any device of the group.
    pub(crate) fn any_device(&self, test: impl Fn(*mut bindings::device) -> bool) -> bool {
        // SAFETY: A group by the type invariant.
        let head: *mut bindings::list_head =
            unsafe { field(self.0 .0, layout::iommu_group::DEVICES) };
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
pub(crate) struct Domain<'a>(NonNull<c_void>, PhantomData<&'a c_void>);

impl<'a> Domain<'a> {
    fn type_field(self) -> &'a Atomic<u32> {
        // SAFETY: A domain by the type invariant. The hot path reads the field without a lock,
        // hence atomically.
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
        unsafe { field::<u8>(self.0, layout::iommu_domain::IS_IOMMUPT).read() != 0 }
    }

    /// The pointer to the domain's `struct iommu_domain_ops`.
    pub(crate) fn ops(self) -> &'a Atomic<*mut c_void> {
        // SAFETY: A domain by the type invariant. Unmaps load the pointer without a lock, so it
        // is only ever accessed atomically.
        unsafe { Atomic::from_ptr(field(self.0, layout::iommu_domain::OPS)) }
    }

    /// The pointer to the page table's `struct pt_iommu_ops`, if it is a generic page table.
    pub(crate) fn pt_ops(self) -> Option<&'a Atomic<*mut c_void>> {
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
    pub(crate) unsafe fn entry(table: &Atomic<*mut c_void>, offset: usize) -> *const c_void {
        NonNull::new(table.load(Relaxed)).map_or(core::ptr::null(), |table| {
            // SAFETY: Constant memory of the kernel or of the IOMMU driver, by this function's
            // requirements.
            unsafe { field::<*const c_void>(table, offset).read() }
        })
    }

    /// Whether the domain is strict, by what unmaps look at and not by its label alone.
    pub(crate) fn is_strict(self) -> bool {
        self.domain_type() == bindings::IOMMU_DOMAIN_DMA
            && self
                .dma_cookie()
                .is_some_and(|cookie| cookie.fq_domain().load(Relaxed).is_null())
    }

    /// The DMA-API cookie, if that is what the domain carries (the pointer is in a union).
    pub(crate) fn dma_cookie(self) -> Option<Cookie<'a>> {
        // SAFETY: A domain by the type invariant; the cookie is set when the domain becomes a
        // default domain, under the group's mutex.
        let (kind, cookie) = unsafe {
            (
                field::<u32>(self.0, layout::iommu_domain::COOKIE_TYPE).read(),
                field::<*mut c_void>(self.0, layout::iommu_domain::IOVA_COOKIE).read(),
            )
        };
        if kind != layout::iommu_domain_cookie_type::IOMMU_COOKIE_DMA_IOVA {
            return None;
        }
        // INVARIANT: The cookie type says what the union holds; it lives as long as the domain.
        NonNull::new(cookie).map(|cookie| Cookie(cookie, PhantomData))
    }

    /// Whether `pointer` is this domain.
    pub(crate) fn is(self, pointer: *mut c_void) -> bool {
        self.0.as_ptr() == pointer
    }
}

/// A `struct iommu_dma_cookie`.
///
/// # Invariants
///
/// The DMA-API cookie of a domain as [`Domain`] describes, for the same `'a`.
#[derive(Clone, Copy)]
pub(crate) struct Cookie<'a>(NonNull<c_void>, PhantomData<&'a c_void>);

/// The flush queues of a domain.
pub(crate) enum Rings {
    /// One `struct iova_fq` for each possible CPU; a per-CPU pointer.
    PerCpu(*mut c_void),
    /// One `struct iova_fq` for all.
    Single(*mut c_void),
}

impl<'a> Cookie<'a> {
    /// The domain whose unmaps are queued, NULL for a strict domain.
    pub(crate) fn fq_domain(self) -> &'a Atomic<*mut c_void> {
        // SAFETY: A cookie by the type invariant; every unmap samples this with READ_ONCE().
        unsafe { Atomic::from_ptr(field(self.0, layout::iommu_dma_cookie::FQ_DOMAIN)) }
    }

    /// The flush timer.
    pub(crate) fn timer(self) -> *mut bindings::timer_list {
        // SAFETY: A cookie by the type invariant.
        unsafe { field(self.0, layout::iommu_dma_cookie::FQ_TIMER) }
    }

    /// What the flush timer calls; `None` if it was never set up or is shut down.
    pub(crate) fn timer_function(self) -> Option<TimerFunction> {
        // SAFETY: A cookie by the type invariant; its timer's function changes only in
        // `timer_setup()` and `timer_shutdown_sync()`, both under the group's mutex.
        unsafe { (*self.timer()).function }
    }

    fn ring_field(self) -> *mut *mut c_void {
        const { assert!(layout::iommu_dma_cookie::PERCPU_FQ == layout::iommu_dma_cookie::SINGLE_FQ) };
        // SAFETY: A cookie by the type invariant.
        unsafe { field(self.0, layout::iommu_dma_cookie::PERCPU_FQ) }
    }

    /// The flush queues; `None` if there are none or they are of an unknown kind.
    pub(crate) fn rings(self) -> Option<Rings> {
        use layout::iommu_dma_queue_type as kind;
        // SAFETY: A cookie by the type invariant; both fields change under the group's mutex.
        let (pointer, queue_type) = unsafe {
            let options = layout::iommu_dma_cookie::OPTIONS + layout::iommu_dma_options::QT;
            (
                self.ring_field().read(),
                field::<u32>(self.0, options).read(),
            )
        };
        match queue_type {
            _ if pointer.is_null() => None,
            kind::IOMMU_DMA_OPTS_PER_CPU_QUEUE => Some(Rings::PerCpu(pointer)),
            kind::IOMMU_DMA_OPTS_SINGLE_QUEUE => Some(Rings::Single(pointer)),
            _ => None,
        }
    }

    /// Forgets the flush queues.
    ///
    /// # Safety
    ///
    /// Nobody can reach them any more.
    pub(crate) unsafe fn forget_rings(self) {
        // SAFETY: A cookie by the type invariant; no reader by this function's requirements.
        unsafe { self.ring_field().write(core::ptr::null_mut()) };
    }
}

/// How many entries the `struct iova_fq` at `ring` holds. Only exact while nobody adds to it or
/// removes from it.
///
/// # Safety
///
/// `ring` is such a queue.
pub(crate) unsafe fn ring_entries(ring: NonNull<c_void>) -> u32 {
    // SAFETY: By this function's requirements; `mod_mask` never changes.
    unsafe {
        let head = Atomic::from_ptr(field::<u32>(ring, layout::iova_fq::HEAD)).load(Relaxed);
        let tail = Atomic::from_ptr(field::<u32>(ring, layout::iova_fq::TAIL)).load(Relaxed);
        let mask = field::<u32>(ring, layout::iova_fq::MOD_MASK).read();
        tail.wrapping_sub(head) & mask
    }
}

/// The lock of a queue (`struct iova_fq`).
///
/// # Safety
///
/// `ring` is such a queue.
pub(crate) unsafe fn ring_lock(ring: NonNull<c_void>) -> *mut bindings::spinlock_t {
    // SAFETY: By this function's requirements.
    unsafe { field(ring, layout::iova_fq::LOCK) }
}

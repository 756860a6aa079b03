// SPDX-License-Identifier: GPL-2.0-only

//! The IOMMU drivers whose unmap path was read and found fit for a live switch.
//!
//! Tasks-RCU takes a task that sleeps for one that has left its unmap. Fit means:
//!
//! * From the mode sample to the lock of the ring, and inside the redirected entry, nothing
//!   sleeps or gives up the CPU voluntarily. Where spin locks sleep (`PREEMPT_RT`) they count as
//!   sleeping. A page table format that invalidates inside its unmap entry
//!   (`PT_FEAT_FLUSH_RANGE_NO_GAPS`) is not fit there.
//! * Nobody keeps the redirected table across a sleep, on the way of a map either.
//! * Behind the ring's lock nothing touches a ring.
//! * Its flush needs no context that a writer of `type` does not have.
//!
//! To support another driver, add a file beside `drivers/intel.rs` and name it in [`ALL`].

#[cfg(not(CONFIG_PREEMPT_RT))]
mod amd;
mod intel;

use crate::{layout, symbol, view::Domain};
use core::ffi::c_void;
use kernel::sync::atomic::Atomic;

/// An audited IOMMU driver.
pub(crate) struct Driver {
    /// The name shown to people, and in `/sys/kernel/iommu_live/drivers`.
    pub(crate) name: &'static str,
    /// The functions an unmap may go to.
    unmap: &'static [&'static str],
    /// What invalidates the whole IOTLB of a domain (`iommu_domain_ops::flush_iotlb_all`).
    flush_all: &'static str,
    /// What invalidates after a strict unmap (`iommu_domain_ops::iotlb_sync`).
    sync: &'static str,
}

/// All audited drivers.
pub(crate) static ALL: &[&Driver] = &[
    #[cfg(not(CONFIG_PREEMPT_RT))]
    &amd::DRIVER,
    &intel::DRIVER,
];

/// A domain all of whose unmaps go through functions of an audited driver.
///
/// # Invariants
///
/// `slot` points to a `struct pt_iommu_ops` in constant memory, whose unmap entry is one of an
/// audited driver's.
pub(crate) struct Audited<'a> {
    /// The pointer in the domain that unmaps follow.
    pub(crate) slot: &'a Atomic<*mut c_void>,
}

impl Driver {
    fn audits<'a>(&self, domain: Domain<'a>) -> Option<Audited<'a>> {
        let slot = domain.pt_ops()?;
        let ops = domain.ops();
        // SAFETY: `slot` points to a `struct pt_iommu_ops`, `ops` to a `struct iommu_domain_ops`.
        let (unmap, flush_all, sync) = unsafe {
            (
                Domain::entry(slot, layout::pt_iommu_ops::UNMAP_RANGE),
                Domain::entry(ops, layout::iommu_domain_ops::FLUSH_IOTLB_ALL),
                Domain::entry(ops, layout::iommu_domain_ops::IOTLB_SYNC),
            )
        };
        let known = self.unmap.iter().any(|name| symbol::is(unmap, name))
            && symbol::is(flush_all, self.flush_all)
            && symbol::is(sync, self.sync);
        // INVARIANT: The unmap entry was recognised.
        known.then_some(Audited { slot })
    }
}

/// The audited driver whose functions, and no others, are on the domain's unmap path.
pub(crate) fn audit(domain: Domain<'_>) -> Option<Audited<'_>> {
    ALL.iter().find_map(|driver| driver.audits(domain))
}

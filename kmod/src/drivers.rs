// SPDX-License-Identifier: GPL-2.0-only

//! The IOMMU drivers whose unmap path was read and found fit for a live switch.
//!
//! Fit means: between the mode sample and the return of an unmap it neither sleeps nor gives up
//! the CPU voluntarily (tasks-RCU would take that for the end of the unmap), and its flush needs
//! no context that a writer of `type` does not have.
//!
//! To support another driver, add a file beside `drivers/intel.rs` and name it in [`ALL`].

mod intel;

use crate::{layout, redirect::Redirect, symbol, view::Domain};
use core::ffi::c_void;
use kernel::sync::atomic::Atomic;

/// An audited IOMMU driver.
pub(crate) struct Driver {
    /// The name shown to people, and in `/sys/kernel/iommu_live/drivers`.
    pub(crate) name: &'static str,
    /// Which pointer of a domain is redirected during a switch.
    pub(crate) redirect: Redirect,
    /// The functions an unmap may go to.
    unmap: &'static [&'static str],
    /// What invalidates the whole IOTLB of a domain (`iommu_domain_ops::flush_iotlb_all`).
    flush_all: &'static str,
    /// What invalidates after a strict unmap (`iommu_domain_ops::iotlb_sync`).
    sync: &'static str,
}

/// All audited drivers.
pub(crate) static ALL: &[&Driver] = &[&intel::DRIVER];

/// A domain all of whose unmaps go through functions of an audited driver.
///
/// # Invariants
///
/// `slot` points to an operations table of the kind `driver.redirect` names, whose unmap entry is
/// one of the driver's.
pub(crate) struct Audited<'a> {
    /// The pointer in the domain that unmaps follow.
    pub(crate) slot: &'a Atomic<*mut c_void>,
    /// The driver.
    pub(crate) driver: &'static Driver,
}

impl Driver {
    fn audits<'a>(&'static self, domain: Domain<'a>) -> Option<Audited<'a>> {
        let slot = match self.redirect {
            Redirect::GenericPt => domain.pt_ops()?,
            Redirect::DomainOps => domain.ops(),
        };
        let ops = domain.ops();
        // SAFETY: `slot` holds a table of the kind that `redirect` describes, `ops` one of
        // `struct iommu_domain_ops`.
        let (unmap, flush_all, sync) = unsafe {
            (
                Domain::entry(slot, self.redirect.unmap_offset()),
                Domain::entry(ops, layout::iommu_domain_ops::FLUSH_IOTLB_ALL),
                Domain::entry(ops, layout::iommu_domain_ops::IOTLB_SYNC),
            )
        };
        let known = self.unmap.iter().any(|name| symbol::is(unmap, name))
            && symbol::is(flush_all, self.flush_all)
            && symbol::is(sync, self.sync);
        // INVARIANT: The unmap entry was recognised.
        known.then_some(Audited { slot, driver: self })
    }
}

/// The audited driver whose functions, and no others, are on the domain's unmap path.
pub(crate) fn audit(domain: Domain<'_>) -> Option<Audited<'_>> {
    ALL.iter().find_map(|driver| driver.audits(domain))
}

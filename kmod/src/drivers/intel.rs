// SPDX-License-Identifier: GPL-2.0-only

//! Intel VT-d (`drivers/iommu/intel`), on the generic page table.
//!
//! Read for 7.3: `vtdss_unmap_range()` and `x86_64_unmap_range()` walk and clear entries without
//! locks that sleep; `intel_iommu_tlb_sync()` and `intel_flush_iotlb_all()` go through
//! `cache_tag_flush_*()`, which holds the domain's cache lock with interrupts off, to
//! `qi_submit_sync()`, which spins, or to the invalidation registers, likewise. ATS adds
//! device-TLB requests on the same way. `domain->ops` must stay what it is: the driver tells
//! first-stage from second-stage domains by its address.

use super::Driver;
use crate::redirect::Redirect;

pub(super) static DRIVER: Driver = Driver {
    name: "intel",
    redirect: Redirect::GenericPt,
    // Second stage (also legacy mode) and first stage.
    unmap: &["vtdss_unmap_range", "x86_64_unmap_range"],
    flush_all: "intel_flush_iotlb_all",
    sync: "intel_iommu_tlb_sync",
};

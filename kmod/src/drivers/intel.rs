// SPDX-License-Identifier: GPL-2.0-only

//! Intel VT-d (`drivers/iommu/intel`), on the generic page table.
//!
//! Read for 7.3: `vtdss_unmap_range()` and `x86_64_unmap_range()` walk and clear entries without
//! a lock, and invalidate nothing (Intel's formats are not set up with
//! `PT_FEAT_FLUSH_RANGE_NO_GAPS`). `intel_iommu_tlb_sync()` and `intel_flush_iotlb_all()` run
//! behind the unmap entry, or with a ring's lock held. They go through `cache_tag_flush_*()`,
//! which takes the domain's cache lock (it sleeps on `PREEMPT_RT`), to `qi_submit_sync()`, which
//! spins, or to the invalidation registers, likewise. ATS adds device-TLB requests on the same
//! way. `pt_iommu::ops` is loaded anew for each call of the page table. `domain->ops` must stay
//! what it is: the driver tells first-stage from second-stage domains by its address.

use super::{Driver, Table};

pub(super) static DRIVER: Driver = Driver {
    name: "intel",
    module: "intel_iommu",
    table: Table::PageTable,
    // Second stage (also legacy mode) and first stage.
    unmap: &["vtdss_unmap_range", "x86_64_unmap_range"],
    flush_all: "intel_flush_iotlb_all",
    sync: "intel_iommu_tlb_sync",
    mark: None,
};

// SPDX-License-Identifier: GPL-2.0-only

//! AMD-Vi (`drivers/iommu/amd`), on the generic page table.
//!
//! Read for 7.3: `amdv1_unmap_range()` and `x86_64_unmap_range()` walk and clear entries without
//! a lock, and invalidate nothing. (Where the IOMMU caches entries that are not present, `NpCache`,
//! they are set up with `PT_FEAT_FLUSH_RANGE_NO_GAPS`, and would invalidate what a gather has when
//! it gets a second range, under a lock that sleeps on `PREEMPT_RT`. An unmap of the DMA API is
//! one range in a fresh gather.) `amd_iommu_iotlb_sync()` and `amd_iommu_flush_iotlb_all()` run
//! behind the unmap entry or with a ring's lock held. They take the domain's lock, queue commands
//! under a raw one, and spin until the IOMMU has done them. ATS adds device-TLB requests on the
//! same way. `pt_iommu::ops` is loaded anew for each call of the page table; a table that grows
//! goes through `pt_iommu::driver_ops`, which stays what it is.

use super::{Driver, Table};

pub(super) static DRIVER: Driver = Driver {
    name: "amd",
    module: "amd_iommu",
    table: Table::PageTable,
    // Version 1 of the page table, and version 2.
    unmap: &["amdv1_unmap_range", "x86_64_unmap_range"],
    flush_all: "amd_iommu_flush_iotlb_all",
    sync: "amd_iommu_iotlb_sync",
    mark: None,
};

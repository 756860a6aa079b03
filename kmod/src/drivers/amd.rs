// SPDX-License-Identifier: GPL-2.0-only

//! AMD-Vi (`drivers/iommu/amd`), on the generic page table.
//!
//! Read for 7.3: `amdv1_unmap_range()` and `x86_64_unmap_range()` walk and clear entries without
//! a lock. Where the IOMMU caches entries that are not present (`NpCache`: an emulated one), they
//! are set up with `PT_FEAT_FLUSH_RANGE_NO_GAPS`, and a strict unmap may invalidate inside them:
//! `amd_iommu_iotlb_sync()` takes the domain's lock, which sleeps on `PREEMPT_RT`, so this driver
//! is not fit there. Otherwise that, and `amd_iommu_flush_iotlb_all()`, run behind the unmap entry
//! or with a ring's lock held; they queue commands under a raw lock and spin until the IOMMU has
//! done them. ATS adds device-TLB requests on the same way. `pt_iommu::ops` is loaded anew for
//! each call of the page table; a table that grows goes through `pt_iommu::driver_ops`, which
//! stays what it is.

use super::Driver;

pub(super) static DRIVER: Driver = Driver {
    name: "amd",
    // Version 1 of the page table, and version 2.
    unmap: &["amdv1_unmap_range", "x86_64_unmap_range"],
    flush_all: "amd_iommu_flush_iotlb_all",
    sync: "amd_iommu_iotlb_sync",
};

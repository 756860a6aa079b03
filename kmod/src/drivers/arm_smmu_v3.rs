// SPDX-License-Identifier: GPL-2.0-only

//! Arm SMMUv3 (`drivers/iommu/arm/arm-smmu-v3`), with page tables of its own kind
//! (`drivers/iommu/io-pgtable-arm.c`).
//!
//! Read for 7.3: `arm_smmu_unmap_pages()` goes to `arm_lpae_unmap_pages()`, which walks and clears
//! entries without a lock. Where a table goes, it invalidates the walks through it at once; a
//! strict unmap collects its range, and may invalidate what it has collected so far. That,
//! `arm_smmu_iotlb_sync()` and `arm_smmu_flush_iotlb_all()` run in an RCU section, queue commands
//! and spin until the SMMU has done them. With ATS they also take a lock for
//! reading, which sleeps on `PREEMPT_RT`: this driver is not fit there.
//!
//! SMMUv2 has functions by the same names, and not this one more.

use super::{Driver, Table};
use crate::layout;

pub(super) static DRIVER: Driver = Driver {
    name: "arm-smmu-v3",
    module: "arm_smmu_v3",
    table: Table::Domain,
    unmap: &["arm_smmu_unmap_pages"],
    flush_all: "arm_smmu_flush_iotlb_all",
    sync: "arm_smmu_iotlb_sync",
    mark: Some((
        layout::iommu_domain_ops::ENFORCE_CACHE_COHERENCY,
        "arm_smmu_enforce_cache_coherency",
    )),
};

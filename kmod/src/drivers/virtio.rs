// SPDX-License-Identifier: GPL-2.0-only

//! virtio-iommu (`drivers/iommu/virtio-iommu.c`): the page tables are the host's.
//!
//! Read for 7.3: `viommu_unmap_pages()` takes the mapping out of the driver's own tree and queues
//! a request to the host, each under a spin lock with interrupts off; where the queue is full, it
//! sends it and spins. `viommu_iotlb_sync()` and `viommu_flush_iotlb_all()` send what is queued and
//! spin until the host has answered (the latter, where a device is attached); they run behind the
//! unmap entry, or with a ring's lock held. The spin locks sleep on `PREEMPT_RT`, so this driver
//! is not fit there.
//!
//! Until the host has the request, the device reaches the mapping. Strict is what the driver makes
//! of it: an unmap whose request cannot be allocated is not told of, nor is one that the host
//! refuses.

use super::{Driver, Table};

pub(super) static DRIVER: Driver = Driver {
    name: "virtio",
    module: "virtio_iommu",
    table: Table::Domain,
    unmap: &["viommu_unmap_pages"],
    flush_all: "viommu_flush_iotlb_all",
    sync: "viommu_iotlb_sync",
    mark: None,
};

// SPDX-License-Identifier: GPL-2.0-only

//! What the kernel's own live relax (`DMA` to `DMA-FQ`) does not check, and we do.

use crate::{ffi::iommu_live_dev_is_untrusted, private_structs::LockedGroup};
use kernel::bindings;
use kernel::prelude::*;

/// Why a group must not become lazy.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// A device of the group is untrusted (`pci_dev::untrusted`: behind an external port).
    Untrusted,
    /// The IOMMU driver does not support a deferred flush for a device of the group
    /// (`iommu_domain_supports_fq()` in `drivers/iommu/dma-iommu.c`).
    NoDeferredFlush,
}

impl Refusal {
    /// The errno the writer gets.
    pub(crate) fn error(self) -> Error {
        match self {
            Refusal::Untrusted => EPERM,
            // The `kernel` crate of 7.2 has no name for it.
            Refusal::NoDeferredFlush => Error::from_errno(-(bindings::EOPNOTSUPP as i32)),
        }
    }

    /// For the kernel log.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Refusal::Untrusted => "it has an untrusted device",
            Refusal::NoDeferredFlush => "its IOMMU driver does not support deferred flush",
        }
    }
}

/// Whether the group may be lazy.
pub(crate) fn check(group: &LockedGroup<'_>) -> Result<(), Refusal> {
    // SAFETY: `any_device` passes registered devices of the group.
    if group.any_device(|dev| unsafe { iommu_live_dev_is_untrusted(dev) }) {
        return Err(Refusal::Untrusted);
    }
    let capability = bindings::iommu_cap_IOMMU_CAP_DEFERRED_FLUSH;
    // SAFETY: As above. The function copes with devices that have no IOMMU driver.
    let incapable = |dev| unsafe { !bindings::device_iommu_capable(dev, capability) };
    // The generic page table always supports it, whatever the driver says.
    let generic = group
        .default_domain()
        .is_some_and(|domain| domain.is_iommupt());
    if !generic && group.any_device(incapable) {
        return Err(Refusal::NoDeferredFlush);
    }
    Ok(())
}

// SPDX-License-Identifier: GPL-2.0-only

//! The IOMMU drivers whose unmap path was read and found fit for a live switch.
//!
//! Tasks-RCU takes a task that sleeps for one that has left its unmap. Fit means:
//!
//! * From the mode sample to the lock of the ring, and inside the redirected entry, nothing
//!   sleeps or gives up the CPU voluntarily. Where spin locks sleep (`PREEMPT_RT`) they count as
//!   sleeping.
//! * Nobody keeps the address of the redirected table across a sleep, in a map or in an unmap. A
//!   driver whose maps do ([`Table::Domain`]) calls none of our functions through it, and its copy is
//!   never freed.
//! * Behind the ring's lock nothing touches a ring.
//! * Its flush needs no context that a worker of the kernel's, or a writer of `type`, does not
//!   have.
//!
//! What the functions named here call in turn, and what the kernel does around them, was read, and
//! is not looked at again: another kernel with the same names is taken to be as the one read.
//!
//! To support another driver, add a file beside `drivers/intel.rs` and name it in [`ALL`].

// Each says why it is not fit for `PREEMPT_RT`, where it is not.
mod amd;
#[cfg(all(CONFIG_ARM64, not(CONFIG_PREEMPT_RT)))]
mod arm_smmu_v3;
mod intel;
#[cfg(not(CONFIG_PREEMPT_RT))]
mod virtio;

use crate::{
    layout,
    private_structs::Domain,
    symbol::Symbol,
    unmap_table::{Operations, Table},
};
use kernel::sync::atomic::Atomic;

/// An audited IOMMU driver.
pub(crate) struct Driver {
    /// The name shown to people, and in `/sys/kernel/iommu_live/drivers`.
    pub(crate) name: &'static str,
    /// The module its functions are in, where it is not built in.
    module: &'static str,
    /// The table that has the unmap entry.
    table: Table,
    /// The functions an unmap may go to.
    unmap: &'static [&'static str],
    /// What invalidates the whole IOTLB of a domain (`iommu_domain_ops::flush_iotlb_all`).
    flush_all: &'static str,
    /// What invalidates after a strict unmap (`iommu_domain_ops::iotlb_sync`).
    sync: &'static str,
    /// What tells it from a driver that has functions by the same names: where in `struct
    /// iommu_domain_ops`, and which.
    mark: Option<(usize, &'static str)>,
}

/// All audited drivers.
pub(crate) static ALL: &[&Driver] = &[
    &amd::DRIVER,
    #[cfg(all(CONFIG_ARM64, not(CONFIG_PREEMPT_RT)))]
    &arm_smmu_v3::DRIVER,
    &intel::DRIVER,
    #[cfg(not(CONFIG_PREEMPT_RT))]
    &virtio::DRIVER,
];

/// A domain all of whose unmaps go through functions of an audited driver.
///
/// # Invariants
///
/// `slot` points to a `table` in constant memory, whose unmap entry is one of an audited
/// driver's.
pub(crate) struct Audited<'a> {
    /// The pointer in the domain that unmaps follow.
    pub(crate) slot: &'a Atomic<*mut Operations>,
    /// What it points to.
    pub(crate) table: Table,
}

impl Driver {
    /// Whether `unmap` and everything else on the way of an unmap is this driver's.
    fn audits(&self, unmap: &Symbol, domain: Domain<'_>) -> bool {
        // SAFETY: `ops` points to a `struct iommu_domain_ops`, and these are functions of it.
        let is = |offset, name| unsafe {
            Symbol::at(Domain::entry(domain.ops(), offset))
                .is_some_and(|symbol| symbol.is_of(name, self.module))
        };
        self.unmap.iter().any(|name| unmap.is_of(name, self.module))
            && is(layout::iommu_domain_ops::FLUSH_IOTLB_ALL, self.flush_all)
            && is(layout::iommu_domain_ops::IOTLB_SYNC, self.sync)
            && self.mark.is_none_or(|(offset, name)| is(offset, name))
    }
}

/// The domain's table, if all functions on its way of an unmap are those of one audited driver.
pub(crate) fn audit(domain: Domain<'_>) -> Option<Audited<'_>> {
    // The kernel takes the generic page table wherever there is one (`__iommu_unmap()`).
    let (table, slot) = match domain.pt_ops() {
        Some(slot) => (Table::PageTable, slot),
        None => (Table::Domain, domain.ops()),
    };
    // SAFETY: `slot` points to a `table`.
    let unmap = Symbol::at(unsafe { Domain::entry(slot, table.unmap()) })?;
    let known = ALL
        .iter()
        .any(|driver| driver.table == table && driver.audits(&unmap, domain));
    // INVARIANT: The unmap entry was recognised.
    known.then_some(Audited { slot, table })
}

// SPDX-License-Identifier: GPL-2.0-only

//! Live `DMA` and `DMA-FQ` for IOMMU groups, on unmodified kernels.
//!
//! Not supported, and refused: `CONFIG_CFI` kernels, kernels without tasks-RCU or BTF, a running
//! kernel other than the one this was built for, one whose code was not audited ([`audit`]), one
//! that is livepatched. IOMMU drivers that are not in [`drivers`] keep the kernel's own behaviour.
//!
//! `store` of `/sys/kernel/iommu_groups/*/type` comes here first ([`interpose`], [`type_store`]). A
//! tighten of a domain that passes all checks is made live, in the order of [`protocol`], and cleaned
//! up behind its writer ([`cleanup`], [`cleaner`]); a relax is checked ([`relax_checks`]), and made
//! by us while a clean-up is under way, else by the kernel, as is everything else. Writing the type a
//! group has succeeds. Each write is reported ([`report`]), and what is under way is shown
//! ([`sysfs`]). [`private_structs`] and [`ring`] are the only places that know private layouts,
//! [`strict_ops`] has what stands in for the pointer that the hot path reads.

mod audit;
mod btf_check;
mod cleaner;
mod cleanup;
mod counters;
mod drivers;
mod ffi;
mod grace_period;
mod interpose;
mod kernfs;
mod leaked_tables;
mod private_structs;
mod protocol;
mod registry;
mod relax_checks;
mod report;
mod ring;
mod strict_ops;
mod symbol;
mod sysfs;
mod type_store;
mod unmap_table;
mod writer_lock;

/// Offsets and sizes, in bytes, of the structures of the kernel this is built for; written by
/// `layoutgen` from that kernel's BTF.
mod layout {
    include!("layout_generated.rs");
}

use kernel::prelude::*;

#[cfg(any(CONFIG_CFI, CONFIG_CFI_CLANG))]
compile_error!("iommu_live cannot be built for CONFIG_CFI kernels: its entries have other types");
#[cfg(not(CONFIG_TASKS_RCU))]
compile_error!("iommu_live needs a kernel with tasks-RCU (CONFIG_TASKS_RCU=y)");
#[cfg(not(CONFIG_KALLSYMS))]
compile_error!("iommu_live needs a kernel that knows its symbols (CONFIG_KALLSYMS=y)");

module! {
    type: IommuLive,
    name: "iommu_live",
    authors: ["The iommuctl developers"],
    description: "Live DMA and DMA-FQ for IOMMU groups",
    license: "GPL v2",
}

/// The loaded module. Fields are dropped in order: writers are sent back to the kernel's own
/// code before the counters they write to disappear from view.
struct IommuLive {
    _interposer: interpose::Interposer,
    _directory: sysfs::Directory,
}

impl kernel::Module for IommuLive {
    fn init(_module: &'static ThisModule) -> Result<Self> {
        btf_check::check()?;
        audit::check()?;
        // SAFETY: Once, and before anybody can look at it.
        unsafe { registry::init() };
        let directory = sysfs::Directory::create()?;
        let interposer = interpose::Interposer::install()?;
        pr_info!("live switching between DMA and DMA-FQ is on\n");
        Ok(Self {
            _interposer: interposer,
            _directory: directory,
        })
    }
}

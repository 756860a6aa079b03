// SPDX-License-Identifier: GPL-2.0-only
//! The running kernel: its file systems, the writes to them, and what a target names on this machine.

pub mod attribute_write;
pub mod enable_iommu;
pub mod machine;
pub mod pci_ids;
pub mod process;
pub mod procfs;
pub mod resolve;
pub mod sysfs;
pub mod target;

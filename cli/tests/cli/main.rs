// SPDX-License-Identifier: GPL-2.0-only
//! Runs the real program on trees of plain files, and looks at what it says, what it writes and how it ends.
//!
//! `fixtures/laptop.tree` is an Intel laptop with an external NVMe drive, `fixtures/no-iommu.tree` a machine whose IOMMU is off,
//! and `fixtures/module.tree` what the `iommu_live` module adds to sysfs. `expected` holds what is to be said about them, and
//! is compared whole; `UPDATE_EXPECTED=1 cargo test -p iommuctl` rewrites it.

mod audit;
mod bench;
mod defaults;
mod doctor;
mod golden;
mod hostile;
mod interface;
mod lockdown;
mod metrics;
mod policy;
mod rebind;
mod schema;
mod set_mode;
mod support;
mod targets;
mod trail;
mod watch;

// SPDX-License-Identifier: GPL-2.0-only
//! The administrator's configuration: policy files, and the helpers of boot loaders.

pub mod boot_loader;
pub mod policy_files;

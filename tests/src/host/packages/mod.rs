// SPDX-License-Identifier: GPL-2.0-only
//! Our packages: built, looked at, installed and removed.

pub mod deb;
pub mod package_lifecycle;
pub mod rpm_and_arch;
pub mod sbom;

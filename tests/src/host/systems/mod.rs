// SPDX-License-Identifier: GPL-2.0-only
//! Real Debian systems, booted from disks.

pub mod fleet;
pub mod image;
pub mod system;

// SPDX-License-Identifier: GPL-2.0-only
//! Which groups a benchmark may change, and which disk it reads.

pub mod disk_of;
pub mod facts;
pub mod rules;

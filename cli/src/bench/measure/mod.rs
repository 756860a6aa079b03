// SPDX-License-Identifier: GPL-2.0-only
//! Measuring reads of a disk.

pub mod figures;
pub mod histogram;
pub mod load;
pub mod rounds;
pub mod schedule;
pub mod stats;

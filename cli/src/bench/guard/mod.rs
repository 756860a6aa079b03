// SPDX-License-Identifier: GPL-2.0-only
//! The process that changes the type for a benchmark and restores it.

pub mod child;
pub mod journal;
pub mod parent;
pub mod protocol;
pub mod restore;

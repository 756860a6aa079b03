// SPDX-License-Identifier: GPL-2.0-only
//! What the records say about the past.

pub mod boots;
pub mod changes;
pub mod devices;
pub mod spans;

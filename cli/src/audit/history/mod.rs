// SPDX-License-Identifier: GPL-2.0-only
//! The history of devices, from the records.

pub mod boots;
pub mod changes;
pub mod devices;
pub mod spans;

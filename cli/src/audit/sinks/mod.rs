// SPDX-License-Identifier: GPL-2.0-only
//! The destinations of events besides the log.

pub mod journald;
pub mod linux_audit;

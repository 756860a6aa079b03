// SPDX-License-Identifier: GPL-2.0-only
//! Where events go beside the log.

pub mod journald;
pub mod linux_audit;

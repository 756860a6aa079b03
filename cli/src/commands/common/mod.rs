// SPDX-License-Identifier: GPL-2.0-only
//! What several commands share: arguments and tables.

pub mod args;
pub mod group_report;
pub mod result_table;

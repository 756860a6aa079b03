// SPDX-License-Identifier: GPL-2.0-only
//! The commands, a file or a folder each: arguments, report (the JSON document), text, action. To add one: a file here, its name
//! in [`cli`](crate::cli), and, if it reports something, a schema in `cli/schema`.

pub mod audit;
pub mod bench;
pub mod common;
pub mod completions;
pub mod defaults;
pub mod doctor;
pub mod list;
pub mod lockdown;
pub mod man;
pub mod metrics;
pub mod policy;
pub mod recover;
pub mod set_mode;
pub mod show;
pub mod status;
pub mod watch;

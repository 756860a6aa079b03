// SPDX-License-Identifier: GPL-2.0-only
//! The audit: who changed the type of a group, from what to what, and how it ended.
//!
//! An [`event`] describes a change. [`trail`] records the changes of this process, [`recorder`] those of all others. Both
//! append to the [`log`], a chain of records; [`sinks`] are the other destinations of events. [`history`] evaluates the
//! records.

pub mod clock;
pub mod event;
pub mod history;
pub mod log;
mod process;
pub mod recorder;
pub mod sentence;
pub mod settings;
pub mod sinks;
pub mod trail;

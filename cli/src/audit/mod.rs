// SPDX-License-Identifier: GPL-2.0-only
//! The audit: who changed the type of a group, from what to what, and what came of it.
//!
//! An [`event`] says what happened. [`trail`] records the changes this process makes, [`recorder`] those of everybody else.
//! Both append to the [`log`], whose records form a [`chain`]; [`verify`] finds out whether it is as it was written, and
//! [`read`] reads it, [`story`] tells what happened, and [`history`] what each device was, and for how long. [`journal`]
//! and [`kernel`] are the other places events go to.

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

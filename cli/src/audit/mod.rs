// SPDX-License-Identifier: GPL-2.0-only
//! The audit: who changed the type of a group, from what to what, and what came of it.
//!
//! An [`event`] says what happened. [`trail`] records the changes this process makes, [`recorder`] those of everybody else.
//! Both append to the [`log`], whose records form a [`chain`]; [`verify`] finds out whether it is as it was written, and
//! [`read`] reads it, [`story`] tells what happened, and [`history`] what each device was, and for how long. [`journal`]
//! and [`kernel`] are the other places events go to.

pub mod boots;
pub mod chain;
pub mod checked;
pub mod clock;
mod end;
pub mod event;
pub mod head;
pub mod history;
pub mod journal;
pub mod kernel;
pub mod log;
pub mod read;
pub mod recorder;
pub mod settings;
pub mod spans;
pub mod state;
pub mod story;
#[cfg(test)]
mod tests;
pub mod trail;
pub mod verify;
mod who;
pub mod words;

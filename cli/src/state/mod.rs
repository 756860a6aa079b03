// SPDX-License-Identifier: GPL-2.0-only
//! What is true until the next boot, in `/run/iommuctl`: the lock, the record of a lockdown, and what was interrupted.

pub mod change_lock;
pub mod lockdown;
pub mod unfinished;

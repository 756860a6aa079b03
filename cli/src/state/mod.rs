// SPDX-License-Identifier: GPL-2.0-only
//! State that is valid until the next boot, in `/run/iommuctl`: the lock, the record of a lockdown, and interrupted changes.

pub mod change_lock;
pub mod lockdown;
pub mod unfinished;

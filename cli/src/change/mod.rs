// SPDX-License-Identifier: GPL-2.0-only
//! Changing the type of groups.

pub mod advice;
pub mod checks;
pub mod live;
pub mod outcome;
pub mod policy;
pub mod rebind;
pub mod rebind_queue;
pub mod route;
pub mod session;

// SPDX-License-Identifier: GPL-2.0-only
//! Changes the type of groups.
//!
//! [`route`] decides what can be done about a group. [`live`] changes groups while their devices keep working, many at a time;
//! [`rebind_queue`] makes rebinds one after the other: [`checks`] look for what is in use, [`rebind`] unbinds, writes and binds
//! again. A [`session`] is the permission to do either. [`policy`] applies a policy, [`outcome`] is what is reported, and
//! [`advice`] what would work instead.

pub mod advice;
pub mod checks;
pub mod live;
pub mod outcome;
pub mod policy;
pub mod rebind;
pub mod rebind_queue;
pub mod route;
pub mod session;

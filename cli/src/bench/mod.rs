// SPDX-License-Identifier: GPL-2.0-only
//! What lazy is worth, for one disk on this machine: reads, small and large, in one type and in the other, by turns.
//!
//! [`scope`] decides which disk is read and which types may be compared, [`measure`] reads, [`covers`] knows what lazy is lazy
//! for, [`difference`] and [`recommendation`] say what follows from the figures. [`benchmark`] runs all of it, and
//! [`single_instance`] keeps a second benchmark from running meanwhile.
//!
//! The process that measures changes no type. Its [`guard`] does, a child in a session of its own, so that a signal does not end
//! both. When the process that measures falls silent, the guard puts the type back. If both are killed, a journal is left in
//! `/run`, from which `iommuctl recover` puts it back, and, where the group is to become strict again, any command that changes
//! a group.

pub mod benchmark;
pub mod covers;
pub mod difference;
pub mod disk;
pub mod guard;
pub mod measure;
pub mod mode;
pub mod recommendation;
pub mod scope;
pub mod single_instance;

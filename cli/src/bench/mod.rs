// SPDX-License-Identifier: GPL-2.0-only
//! Measures what lazy gains for one disk on this machine: small and large reads, alternating between the types.
//!
//! [`scope`] decides which disk is read and which types may be compared, [`measure`] reads, [`covers`] knows which unmaps are
//! lazy, and [`difference`] and [`recommendation`] interpret the figures. [`benchmark`] runs all of it, and [`single_instance`]
//! prevents a second benchmark from running meanwhile.
//!
//! The process that measures changes no type. Its [`guard`] does, a child in a session of its own, so that a signal does not
//! end both. When the measuring process falls silent, the guard restores the type. If both are killed, a journal is left in
//! `/run`, from which `iommuctl recover` restores the type, and, where the group is to become strict again, any command that
//! changes a group.

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

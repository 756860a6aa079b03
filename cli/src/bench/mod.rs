// SPDX-License-Identifier: GPL-2.0-only
//! What lazy is worth, for one disk on this machine: reads, in one type and in the other, by turns.
//!
//! Pure: what can be compared ([`scope`]), the order of the rounds ([`schedule`]), the figures ([`histogram`], [`stats`],
//! [`figures`], [`change`]) and what follows from them ([`advice`]). At the edges: which disk is meant ([`subject`]), reading from
//! it ([`disk`], [`load`]), and what is known about its group ([`facts`]). [`measure`] does all rounds, and [`session`] what is
//! around them. That there is one bench at a time is what [`alone`] looks after.
//!
//! Whoever measures changes no type. That is done by the [`guard`], a child in a session of its own, which [`keeper`] starts and
//! asks. The one cannot be killed with the other by accident, and when the one that measures falls silent, the guard puts the
//! type back. If both are killed, a [`journal`] is left, from which [`restore`] does it: as part of `iommuctl recover`, and, where
//! the group is to become strict again, before whatever else changes a group next.

pub mod benchmark;
pub mod difference;
pub mod disk;
pub mod guard;
pub mod measure;
pub mod mode;
pub mod recommendation;
pub mod scope;
pub mod single_instance;

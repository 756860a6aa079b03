// SPDX-License-Identifier: GPL-2.0-only
//! Reports, written for people. Everything takes a writer; styles are always written, and taken out again further
//! down where they are not wanted.

pub mod audit;
pub mod defaults;
pub mod doctor;
pub mod list;
pub mod lockdown;
pub mod policy;
pub mod recover;
pub mod show;
pub mod status;

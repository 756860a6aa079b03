// SPDX-License-Identifier: GPL-2.0-only
//! The outside of the virtual machine: everything from an empty cache folder to a running stock kernel.

pub mod build;
pub mod checks;
pub mod demo;
pub mod litmus;
pub mod loads;
pub mod mutants;
pub mod packages;
pub mod systems;
pub mod testbed;
pub mod vm;

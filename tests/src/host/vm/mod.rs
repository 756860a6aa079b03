// SPDX-License-Identifier: GPL-2.0-only
//! Virtual machines: which there are, what they are made of, and running scenarios on them.

pub mod cpio;
pub mod initramfs;
pub mod machine;
pub mod machines;
pub mod matrix;
pub mod monitor;
pub mod qemu;
pub mod runner;
pub mod suite;

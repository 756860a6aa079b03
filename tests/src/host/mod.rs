// SPDX-License-Identifier: GPL-2.0-only
//! The outside of the virtual machine: everything from an empty cache folder to a running stock kernel.

pub mod cache;
pub mod checks;
pub mod chroot;
pub mod command;
pub mod cpio;
pub mod debug_kernel;
pub mod demo;
pub mod initramfs;
pub mod kbuild;
pub mod kernel;
pub mod kinds;
pub mod litmus;
pub mod machine;
pub mod module_files;
pub mod packages;
pub mod prepare;
pub mod progress;
pub mod qemu;
pub mod rust_tools;
pub mod suite;
pub mod system;
pub mod testbed;
pub mod userspace;
pub mod vm;
pub mod workshop;

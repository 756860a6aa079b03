// SPDX-License-Identifier: GPL-2.0-only
//! Making what the machines run: a build root, kernels, modules, programs.

pub mod arch;
pub mod cache;
pub mod chroot;
pub mod command;
pub mod cross;
pub mod debug_kernel;
pub mod host_packages;
pub mod kbuild;
pub mod kernel;
pub mod kernel_image;
pub mod module_files;
pub mod prepare;
pub mod progress;
pub mod rust_tools;
pub mod toolchain;
pub mod userspace;

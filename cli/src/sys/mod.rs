// SPDX-License-Identifier: GPL-2.0-only
//! Linux, without any knowledge of IOMMUs: directories, files, locks, signals and other programs.

pub mod atomic_file;
pub mod error;
pub mod kernfs;
pub mod ofd_lock;
pub mod path_lookup;
pub mod printable;
pub mod private_dir;
pub mod signals;
pub mod subprocess;
pub mod trusted;

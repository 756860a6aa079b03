// SPDX-License-Identifier: GPL-2.0-only
//! The inside of the virtual machine: process 1, the loads it runs, what it looks at, and the scenarios.

pub mod bench;
pub mod cli;
pub mod echo;
pub mod init;
pub mod kernel_log;
pub mod live;
pub mod load;
pub mod map_benchmark;
pub mod modules;
pub mod oracle;
pub mod pci;
pub mod polled;
pub mod prober;
pub mod random;
pub mod scenario;
pub mod scheduler;
pub mod uevent;
pub mod vfio;
pub mod volume;

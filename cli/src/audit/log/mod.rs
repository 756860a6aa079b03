// SPDX-License-Identifier: GPL-2.0-only
//! The audit log: a chain of records in files.

pub mod chain;
pub mod file;
pub mod head;
pub mod json_file;
pub mod last_verified;
pub mod read;
pub mod tail;
#[cfg(test)]
mod tests;
pub mod verify;

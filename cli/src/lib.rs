// SPDX-License-Identifier: GPL-2.0-only
//! The library behind the `iommuctl` program.
//!
//! How a command runs: [`args`] says what may be typed, and touches nothing; [`resolve`] finds out which groups are
//! meant on this machine; [`route`] decides what can be done about each. [`switch`] does it while the devices keep
//! working; [`interrupt`] unbinds their drivers for it, after [`checks`] found nothing in use, by way of [`rebind`].
//! `commands` puts these together into a report; and `render` writes the report for people. For programs, the report is
//! written as JSON.
//!
//! Live changes are made many at a time; [`queue`] makes rebinds one after the other. Whatever changes a group has its
//! [`turn`] meanwhile, which only one process has at a time. What was interrupted has [`left`] a journal.
//!
//! What lazy is worth on this machine is measured in [`mod@bench`].
//!
//! A policy is found and believed in [`policy_files`] and [`trusted`], and applied in [`apply`]; what a lockdown changed is
//! remembered in [`lockdown`].
//!
//! [`sysfs`] and [`proc`] are the ways to the kernel, [`trusted`] to what was configured, and [`own_dir`] to what is kept, by
//! whoever changes something, until the next boot or longer. Each is opened once, on a root that is given from outside, so
//! that everything here, including what writes, can be run on a folder of plain files. What is done is recorded in
//! [`audit`]. Whether all of this is in order on a machine is what [`doctor`] finds out.

pub mod audit;
pub mod bench;
pub mod cli;
pub mod doctor;
pub mod exit;
pub mod sys;

pub mod change;
mod commands;
pub mod config;
pub mod kernel;
pub mod recovery;
pub mod state;
pub mod terminal;
#[cfg(test)]
mod testing;

use self::bench::guard::child::BenchGuardArgs;
use self::exit::{Exit, Failure};
use self::terminal::output::{Color, Output};

/// Runs the process that puts the type back after a bench.
#[must_use]
pub fn guard(args: &BenchGuardArgs) -> Exit {
    match bench::guard::child::child(args) {
        Ok(exit) => exit,
        Err(error) => {
            let failure = Failure::new(Exit::Failed, format!("{error:#}"));
            Output::new(false, false, Color::Auto).failure(&failure)
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The flags that override a check of a rebind, each only its own.

use std::collections::BTreeSet;

use crate::change::checks::Check;

/// The heading over what overrides a check.
const OVERRIDES: &str =
    "A rebind is refused if a device is in use. Each of these overrides one check";

/// What overrides a check, each only its own.
#[derive(Clone, Copy, Debug, Default, clap::Args)]
#[command(next_help_heading = OVERRIDES)]
pub struct Overrides {
    /// A file system on it is mounted: it will be gone, with what was not written yet
    #[arg(long)]
    allow_mounted: bool,
    /// The kernel swaps to it: programs with memory there will be killed, or the machine will stop
    #[arg(long)]
    allow_swap: bool,
    /// A disk of it is part of LVM, RAID or another block device
    #[arg(long)]
    allow_stacked: bool,
    /// A default route leads through it; its addresses and routes do not come back by themselves
    #[arg(long)]
    allow_default_route: bool,
    /// The connection you came in by goes through it; you may not get back in
    #[arg(long)]
    allow_own_connection: bool,
    /// A program or virtual machine has it open through VFIO; it is asked to let go, and waited for
    #[arg(long)]
    allow_vfio: bool,
    /// Its driver cannot be unbound: leave it bound, and let the kernel decide
    #[arg(long)]
    allow_left_bound: bool,
    /// Other devices hang from it and go with it
    #[arg(long)]
    allow_others: bool,
}

impl Overrides {
    /// The checks that are overridden.
    #[must_use]
    pub fn checks(&self) -> BTreeSet<Check> {
        let is_allowed = |check: &Check| match check {
            Check::Mounted => self.allow_mounted,
            Check::Swap => self.allow_swap,
            Check::Stacked => self.allow_stacked,
            Check::DefaultRoute => self.allow_default_route,
            Check::OwnConnection => self.allow_own_connection,
            Check::Vfio => self.allow_vfio,
            Check::LeftBound => self.allow_left_bound,
            Check::Others => self.allow_others,
        };
        Check::ALL.into_iter().filter(is_allowed).collect()
    }
}

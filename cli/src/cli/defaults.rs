// SPDX-License-Identifier: GPL-2.0-only
//! The command line of `defaults`.

use clap::{Subcommand, ValueEnum};

/// Arguments of `defaults`.
#[derive(Debug, clap::Args)]
pub struct DefaultsArgs {
    /// What to do; without anything, the defaults are shown
    #[command(subcommand)]
    pub command: Option<DefaultsCommand>,
}

/// What can be done about the kernel's defaults.
#[derive(Clone, Copy, Debug, Subcommand)]
pub enum DefaultsCommand {
    /// Change what every group starts as from the next boot on, through the distribution's own helper
    Set {
        /// What groups start as
        #[arg(value_name = "DEFAULT")]
        wanted: BootDefault,
        /// Say which files would be written and what would be run, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
    /// Take back what set did
    Undo {
        /// Say which files would be written and what would be run, and do nothing
        #[arg(long)]
        dry_run: bool,
    },
}

/// What groups start as, unless a device or the IOMMU driver needs something else.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum BootDefault {
    /// DMA: translated and strict (iommu.passthrough=0 iommu.strict=1)
    Strict,
    /// DMA-FQ: translated and lazy (iommu.passthrough=0 iommu.strict=0)
    Lazy,
    /// identity: not translated, no protection (iommu.passthrough=1)
    Passthrough,
}

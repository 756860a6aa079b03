// SPDX-License-Identifier: GPL-2.0-only
//! The arguments of `bench`, and of the process that puts the type back.

use std::time::Duration;

use crate::bench::measure::schedule::{MAX_BUDGET, MIN_BUDGET};
use crate::commands::common::args::{seconds, Wait};
use crate::kernel::target::Target;

/// Below the short help.
const SHORT_HELP: &str = "\
Examples:
  iommuctl bench nvme0n1             about half a minute; the type that the group had comes back
  iommuctl bench --dry-run nvme0n1   what would be measured, and what speaks against it

`iommuctl bench --help` says what DEVICE can be, what the figures mean, and how it ends.";

/// What is measured, and how it ends.
const HELP: &str = "\
Devices:
  /dev/nvme0n1      this disk; of a partition only its own blocks are read
  nvme0n1           the same, by the kernel's name of it
  /home             the disk or partition that this file system is mounted from
  0000:01:00.0      the disk of this PCI device, if it has one and no more
  3                 the disk of this group, if it has one and no more

Refused:
  a network interface     it shows nothing without somebody at the other end
  RAID, LVM, encryption   name the disks that it is made of
  neither DMA nor DMA-FQ  from another type no way leads there and back without an interruption
  what has no disk        there is no load for it

Figures, at 1, 4, 16 and 64 reads of 4 KiB at a time, and at 1 and 16 of 128 KiB:
  READS/S    reads in a second
  MEDIAN     how long a read takes: half of them no longer than this
  99 OF 100  the same for 99 of 100
  CPU/READ   time of all processors for each read, with whatever they did (/proc/stat)

Differences:
  The types take turns (A B, B A, and so on), so that what drifts slowly cancels. A change has
  limits in parentheses, which hold, all of them together, with 95 % confidence (Student's t on
  the logarithms of the ratios in each round, after Bonferroni). Where they include no
  difference, none is claimed.

What lazy covers:
  Up to Linux 7.2, every unmap of the group. From Linux 7.3 on, unmaps of one segment, and what
  is mapped segment by segment: a request of several segments that its driver maps as one range,
  as NVMe does, is strict in DMA-FQ as well. Reads of 4 KiB have one segment, those of 128 KiB
  many. What is said of the one holds for the other only as far as the figures of both do.

Only the present type is measured, if:
  a device of the group can be plugged in from outside
  iommu_live is not loaded, or does not know the IOMMU: there may be no way back
  a lockdown is in force
  the policy wants the group strict (--allow-against-policy)

Meanwhile:
  Whoever changes the type ends the bench, which puts back only what it changed itself and what
  is still so. Another iommuctl that has to wait ends it as well, and comes first; another bench
  is refused, of whatever device, since two would spoil each other's figures. Ctrl-C ends it, and
  puts the type back. If it is killed, a guard puts the type back at once; if it is suspended,
  after 10 s, or after 2 s if another iommuctl waits. If both are killed, `iommuctl recover` does,
  and, where the group is to be strict, whatever iommuctl changes something next.
  All devices of the group change their type with it.

Exit codes:
  0  done: both types were measured
  1  failed: no such disk, not permitted, interrupted, somebody else changed the type
  2  usage: the command line makes no sense
  3  refused: what was named cannot be measured, or another bench is running
  4  partly done: only the present type was measured, or would be";

/// Arguments of `bench`.
#[derive(Debug, clap::Args)]
#[command(after_help = SHORT_HELP, after_long_help = HELP)]
pub struct BenchArgs {
    /// The disk, or something that has one
    #[arg(value_name = "DEVICE")]
    pub device: Target,
    /// How long to measure, from 5 to 300; changes of the type come on top of that
    #[arg(long, value_name = "SECONDS", default_value = "24", value_parser = budget)]
    pub seconds: Duration,
    /// The policy wants the group strict: make it lazy all the same, for half of the time
    #[arg(long)]
    pub allow_against_policy: bool,
    /// Say what would be measured, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long the kernel may take for each change of the type, before the bench ends; what has begun cannot be cancelled, and is
    /// put back when the kernel is done
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

fn budget(text: &str) -> Result<Duration, String> {
    let found = seconds(text).ok();
    let (from, to) = (MIN_BUDGET.as_secs(), MAX_BUDGET.as_secs());
    found
        .filter(|d| (MIN_BUDGET..=MAX_BUDGET).contains(d))
        .ok_or_else(|| format!("expected a number of seconds from {from} to {to}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn there_is_a_shortest_and_a_longest_time() {
        assert_eq!(budget("30"), Ok(Duration::from_secs(30)));
        for text in ["0", "4.9", "301", "x"] {
            assert!(budget(text).is_err(), "{text}");
        }
    }
}

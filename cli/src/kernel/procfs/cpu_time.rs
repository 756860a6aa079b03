// SPDX-License-Identifier: GPL-2.0-only
//! The time that the processors were busy (`/proc/stat`, proc(5)).

use std::time::Duration;

use nix::unistd::{sysconf, SysconfVar};

use super::Proc;

/// The columns that are counted: user, nice, system, irq, softirq. The time of our guests is part of `user` already, and steal
/// is time that a hypervisor took from us.
const BUSY: [usize; 5] = [0, 1, 2, 5, 6];

impl Proc {
    /// The time that all processors together were busy since boot; `None` if it is not known. The kernel counts it in
    /// hundredths of a second.
    #[must_use]
    pub fn busy(&self) -> Option<Duration> {
        let lines = self.lines("stat").ok()?;
        let ticks = ticks(lines.first()?)?;
        let in_a_second = sysconf(SysconfVar::CLK_TCK).ok()??;
        let in_a_second = u64::try_from(in_a_second).ok().filter(|n| *n > 0)?;
        Some(Duration::from_nanos(
            ticks.saturating_mul(1_000_000_000 / in_a_second),
        ))
    }
}

fn ticks(line: &str) -> Option<u64> {
    let numbers = line.strip_prefix("cpu ")?.split_ascii_whitespace();
    let numbers: Vec<u64> = numbers.filter_map(|n| n.parse().ok()).collect();
    BUSY.iter().map(|column| numbers.get(*column)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn interrupts_count_and_waiting_does_not() {
        let line = "cpu  1 20 300 4000 50000 600000 7000000 80000000 9 9";
        assert_eq!(ticks(line), Some(7_600_321));
        assert_eq!(ticks("cpu  1 2 3"), None);
        assert_eq!(ticks("cpu0 1 2 3 4 5 6 7"), None);
    }
}

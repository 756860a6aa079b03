// SPDX-License-Identifier: GPL-2.0-only
//! The order of the measurements.

use std::time::Duration;

use crate::bench::mode::Mode;

/// How many bytes a large read has, in many segments: most pages of a buffer are not neighbours in memory.
pub const LARGE_READ_SIZE: u64 = 128 * 1024;

/// What is read: how large, and how many at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Load {
    /// Whether a read has [`LARGE_READ_SIZE`] bytes, and not one block.
    pub large: bool,
    /// How many reads are under way at the same time.
    pub depth: usize,
}

const fn load(large: bool, depth: usize) -> Load {
    Load { large, depth }
}

/// All that is measured. What is large comes last, since a disk can be too small for it.
pub const LOADS: [Load; 6] = [
    load(false, 1),
    load(false, 4),
    load(false, 16),
    load(false, 64),
    load(true, 1),
    load(true, 16),
];

/// Those of them that a disk can have.
#[must_use]
pub fn loads(with_large: bool) -> Vec<Load> {
    let mut loads = LOADS.to_vec();
    loads.retain(|load| with_large || !load.large);
    loads
}
/// The shortest time all of it can take, so that a slot is long enough for the clock that processor time is counted with.
pub const MIN_BUDGET: Duration = Duration::from_secs(5);
/// The longest: a group that is to be strict is lazy for half of it.
pub const MAX_BUDGET: Duration = Duration::from_secs(300);

/// The order, and how long each part takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How many times each type is measured.
    pub rounds: usize,
    /// What is read each time.
    pub loads: Vec<Load>,
    /// How long that is measured each time.
    pub slot: Duration,
    /// The types, in their order: one after the other, and every second round the other way about.
    pub order: Vec<Mode>,
}

impl Schedule {
    /// For about `budget`, beginning with `first`, and with the other type if `both` can be had.
    #[must_use]
    pub fn new(first: Mode, both: bool, loads: Vec<Load>, budget: Duration) -> Self {
        let seconds = usize::try_from(budget.as_secs()).unwrap_or(usize::MAX);
        // An even number: then it ends with the type that it began with. At least four, for the statistics; and no more than
        // sixteen, so that a slot is long enough for the clock that processor time is counted with.
        let rounds = (seconds / 3).clamp(4, 16) & !1;
        let round = |n: usize| match (both, n % 2) {
            (false, _) => vec![first],
            (true, 0) => vec![first, first.other()],
            (true, _) => vec![first.other(), first],
        };
        let order: Vec<Mode> = (0..rounds).flat_map(round).collect();
        let slots = u32::try_from(order.len() * loads.len()).unwrap_or(u32::MAX);
        Self {
            rounds,
            loads,
            slot: budget / slots.max(1),
            order,
        }
    }

    /// How many slots there are.
    #[must_use]
    pub fn slots(&self) -> usize {
        self.order.len() * self.loads.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn switches(schedule: &Schedule) -> usize {
        schedule.order.windows(2).filter(|w| w[0] != w[1]).count()
    }

    #[test]
    fn drift_cancels_and_the_end_is_as_the_beginning() {
        for (seconds, rounds) in [(5, 4), (24, 8), (30, 10), (300, 16)] {
            let budget = Duration::from_secs(seconds);
            let schedule = Schedule::new(Mode::Strict, true, loads(true), budget);
            assert_eq!(schedule.rounds, rounds);
            assert_eq!(schedule.order.first(), schedule.order.last());
            // The mean place of both types is the same.
            let place = |mode: Mode| -> usize {
                let places = schedule.order.iter().enumerate();
                places.filter(|(_, m)| **m == mode).map(|(n, _)| n).sum()
            };
            assert_eq!(place(Mode::Strict), place(Mode::Lazy));
            assert_eq!(switches(&schedule), rounds);
            assert_eq!(schedule.slots(), rounds * 2 * LOADS.len());
            assert!(schedule.slot * u32::try_from(schedule.slots()).unwrap() <= budget);
        }
    }

    #[test]
    fn one_type_alone_is_never_switched() {
        let budget = Duration::from_secs(24);
        let schedule = Schedule::new(Mode::Lazy, false, loads(false), budget);
        assert_eq!(schedule.order, [Mode::Lazy; 8]);
        assert_eq!(switches(&schedule), 0);
        assert_eq!(schedule.slot, Duration::from_millis(750));
    }
}

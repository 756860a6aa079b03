// SPDX-License-Identifier: GPL-2.0-only
//! When what is measured.

use std::time::Duration;

use crate::bench::mode::Mode;

/// How many reads are under way at the same time.
pub const DEPTHS: [usize; 4] = [1, 4, 16, 64];
/// The shortest time all of it can take, so that a slot is long enough for the clock that processor time is counted with.
pub const MIN_BUDGET: Duration = Duration::from_secs(5);
/// The longest: a group that is to be strict is lazy for half of it.
pub const MAX_BUDGET: Duration = Duration::from_secs(300);

/// The order, and how long each part takes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schedule {
    /// How many times each type is measured.
    pub rounds: usize,
    /// How long each depth is measured each time.
    pub slot: Duration,
    /// The types, in their order: one after the other, and every second round the other way about.
    pub order: Vec<Mode>,
}

impl Schedule {
    /// For about `budget`, beginning with `first`, and with the other type if `both` can be had.
    #[must_use]
    pub fn new(first: Mode, both: bool, budget: Duration) -> Self {
        let seconds = usize::try_from(budget.as_secs()).unwrap_or(usize::MAX);
        // An even number: then it ends with the type that it began with. At least four, for the statistics; and no more than
        // sixteen, since a tighten takes a second in which nothing is measured.
        let rounds = (seconds / 3).clamp(4, 16) & !1;
        let round = |n: usize| match (both, n % 2) {
            (false, _) => vec![first],
            (true, 0) => vec![first, first.other()],
            (true, _) => vec![first.other(), first],
        };
        let order: Vec<Mode> = (0..rounds).flat_map(round).collect();
        let slots = u32::try_from(order.len() * DEPTHS.len()).unwrap_or(u32::MAX);
        Self {
            rounds,
            slot: budget / slots.max(1),
            order,
        }
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
            let schedule = Schedule::new(Mode::Strict, true, Duration::from_secs(seconds));
            assert_eq!(schedule.rounds, rounds);
            assert_eq!(schedule.order.first(), schedule.order.last());
            // The mean place of both types is the same.
            let place = |mode: Mode| -> usize {
                let places = schedule.order.iter().enumerate();
                places.filter(|(_, m)| **m == mode).map(|(n, _)| n).sum()
            };
            assert_eq!(place(Mode::Strict), place(Mode::Lazy));
            assert_eq!(switches(&schedule), rounds);
            let whole = schedule.slot * u32::try_from(rounds * 8).unwrap();
            assert!(whole <= Duration::from_secs(seconds));
        }
    }

    #[test]
    fn one_type_alone_is_never_switched() {
        let schedule = Schedule::new(Mode::Lazy, false, Duration::from_secs(24));
        assert_eq!(schedule.order, [Mode::Lazy; 8]);
        assert_eq!(switches(&schedule), 0);
        assert_eq!(schedule.slot, Duration::from_millis(750));
    }
}

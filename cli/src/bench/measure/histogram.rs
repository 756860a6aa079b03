// SPDX-License-Identifier: GPL-2.0-only
//! A histogram of durations in bounded memory: a fast disk makes millions of reads.
//!
//! Up to 32 ns each value has a place of its own; from there on each power of two is divided into 32 places, so that what is read
//! from the table is wrong by less than two parts in a hundred.

/// Places in each power of two, as a power of two.
const BITS: u32 = 5;
/// The same, as a number.
const PLACES: u64 = 1 << BITS;
/// Places in all, up to the largest number there is.
const SIZE: usize = ((64 - BITS as usize) + 1) << BITS;

/// How often each duration was met.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram {
    counts: Vec<u64>,
    total: u64,
}

impl Default for Histogram {
    fn default() -> Self {
        Self {
            counts: vec![0; SIZE],
            total: 0,
        }
    }
}

/// The place of `value`.
fn place(value: u64) -> usize {
    let Some(shift) = value.checked_ilog2().and_then(|e| e.checked_sub(BITS)) else {
        return usize::try_from(value).unwrap_or(0);
    };
    let within = (value >> shift) & (PLACES - 1);
    let place = (u64::from(shift + 1) << BITS) + within;
    usize::try_from(place).unwrap_or(SIZE - 1)
}

/// The middle of what has this place.
fn middle(place: usize) -> u64 {
    let place = u64::try_from(place).unwrap_or(u64::MAX);
    match (place >> BITS).checked_sub(1) {
        None => place,
        Some(shift) => {
            let low = (PLACES + (place & (PLACES - 1))) << shift;
            low + (1_u64 << shift) / 2
        }
    }
}

impl Histogram {
    /// Adds one duration, in nanoseconds.
    pub fn add(&mut self, nanoseconds: u64) {
        if let Some(count) = self.counts.get_mut(place(nanoseconds)) {
            *count += 1;
            self.total += 1;
        }
    }

    /// Adds all that `other` has.
    pub fn merge(&mut self, other: &Self) {
        for (count, more) in self.counts.iter_mut().zip(&other.counts) {
            *count += more;
        }
        self.total += other.total;
    }

    /// How many there are.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.total
    }

    /// What so many of a hundred did not exceed, in nanoseconds; `None` if there is nothing in it.
    #[must_use]
    pub fn percentile(&self, percent: u64) -> Option<u64> {
        let wanted = (self.total * percent).div_ceil(100).max(1);
        let mut sum = 0;
        let reached = |count: &u64| {
            sum += count;
            sum >= wanted
        };
        self.counts.iter().position(reached).map(middle)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_nearly_what_was_added() {
        for value in (0..40).chain([999, 4_096, 81_234, 12_345_678, u64::MAX / 3]) {
            let mut one = Histogram::default();
            one.add(value);
            let read = one.percentile(50).unwrap();
            let wrong = read.abs_diff(value) as f64;
            assert!(wrong <= value as f64 / 50.0, "{value} is read as {read}");
        }
    }

    #[test]
    fn places_are_in_order_and_in_the_table() {
        let mut last = 0;
        for e in 0..64 {
            for value in [1_u64 << e, (1 << e) + (1 << e) / 3] {
                assert!(place(value) >= last && place(value) < SIZE);
                last = place(value);
            }
        }
        assert_eq!(place(u64::MAX), SIZE - 1);
    }

    #[test]
    fn percentiles_of_two_halves() {
        let (mut fast, mut slow) = (Histogram::default(), Histogram::default());
        (0..98).for_each(|_| fast.add(10));
        (0..2).for_each(|_| slow.add(20));
        assert_eq!(Histogram::default().percentile(50), None);
        fast.merge(&slow);
        assert_eq!(fast.total(), 100);
        assert_eq!(fast.percentile(50), Some(10));
        assert_eq!(fast.percentile(98), Some(10));
        assert_eq!(fast.percentile(99), Some(20));
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Computes figures from the counts alone.

use std::time::Duration;

use serde::Serialize;

use super::histogram::Histogram;
use super::schedule::{Load, LOADS};
use super::stats::{paired_ratio, Ratio};
use crate::bench::mode::Mode;

/// How long a change of the type took.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Change {
    /// To this type.
    #[serde(rename = "type")]
    pub mode: Mode,
    /// For so long the kernel was at it.
    pub milliseconds: f64,
}

/// What was counted in one slot: one type, one load.
#[derive(Clone, Debug)]
pub struct Slot {
    /// The type that the group had, as it was read from the kernel.
    pub mode: Mode,
    /// What was read.
    pub load: Load,
    /// How long it was.
    pub took: Duration,
    /// How long each read took.
    pub reads: Histogram,
    /// How long all processors were busy meanwhile, with whatever; `None` if that is not known.
    pub busy: Option<Duration>,
}

impl Slot {
    /// Reads in a second.
    fn rate(&self) -> f64 {
        self.reads.total() as f64 / self.took.as_secs_f64()
    }

    /// Processor time for each read, in microseconds.
    fn cost(&self) -> f64 {
        let busy = self.busy.map_or(f64::NAN, |b| b.as_secs_f64());
        busy * 1e6 / self.reads.total() as f64
    }
}

/// What was measured of one type at one depth.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Measurement {
    /// The depth.
    pub queue_depth: usize,
    /// The type.
    #[serde(rename = "type")]
    pub mode: Mode,
    /// How many reads there were.
    pub reads: u64,
    /// How many in a second.
    pub reads_per_second: f64,
    /// How long one took, in microseconds: half of them no longer than this.
    pub median_us: Option<f64>,
    /// The same for 99 of 100.
    pub p99_us: Option<f64>,
    /// Time of all processors, for each read, in microseconds; `None` if it is not known.
    pub cpu_us_per_read: Option<f64>,
}

/// What one type is, compared with the other, at one depth.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Comparison {
    /// The depth.
    pub queue_depth: usize,
    /// Reads in a second: lazy divided by strict.
    pub reads_per_second: Option<Ratio>,
    /// Processor time for each read: lazy divided by strict.
    pub cpu_per_read: Option<Ratio>,
}

/// What was measured of each type at each depth, of large reads or of the others.
#[must_use]
pub fn measurements(slots: &[Slot], large: bool) -> Vec<Measurement> {
    let of = |load: Load, mode: Mode| {
        let mut these = slots
            .iter()
            .filter(|s| s.load == load && s.mode == mode)
            .peekable();
        these.peek()?;
        let (mut reads, mut took, mut busy) =
            (Histogram::default(), Duration::ZERO, Some(Duration::ZERO));
        for slot in these {
            reads.merge(&slot.reads);
            took += slot.took;
            busy = busy.zip(slot.busy).map(|(sum, more)| sum + more);
        }
        let microseconds = |percent| reads.percentile(percent).map(|ns| round(ns as f64 / 1e3));
        let cost = busy.map(|b| b.as_secs_f64() * 1e6 / reads.total() as f64);
        Some(Measurement {
            queue_depth: load.depth,
            mode,
            reads: reads.total(),
            reads_per_second: round(reads.total() as f64 / took.as_secs_f64()),
            median_us: microseconds(50),
            p99_us: microseconds(99),
            cpu_us_per_read: cost.filter(|c| c.is_finite()).map(round),
        })
    };
    let both = [Mode::Strict, Mode::Lazy];
    let loads = LOADS.into_iter().filter(|load| load.large == large);
    let all = loads.flat_map(|load| both.map(|mode| (load, mode)));
    all.filter_map(|(load, mode)| of(load, mode)).collect()
}

/// Rounds to a tenth; more digits would be noise.
fn round(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// Lazy against strict, at each depth, for large reads or for the others; nothing if only one of them was measured.
#[must_use]
pub fn comparisons(slots: &[Slot], large: bool) -> Vec<Comparison> {
    let of = |load: Load| {
        let these = |mode: Mode| {
            slots
                .iter()
                .filter(move |s| s.load == load && s.mode == mode)
        };
        // The nth time that one type was measured goes with the nth time of the other: one after the other, in either order.
        let pairs = || these(Mode::Strict).zip(these(Mode::Lazy));
        pairs().next()?;
        let rates: Vec<(f64, f64)> = pairs().map(|(a, b)| (a.rate(), b.rate())).collect();
        let costs: Vec<(f64, f64)> = pairs().map(|(a, b)| (a.cost(), b.cost())).collect();
        Some(Comparison {
            queue_depth: load.depth,
            reads_per_second: paired_ratio(&rates),
            cpu_per_read: paired_ratio(&costs),
        })
    };
    let loads = LOADS.into_iter().filter(|load| load.large == large);
    loads.filter_map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slot(mode: Mode, depth: usize, reads: usize, busy: u64) -> Slot {
        let mut histogram = Histogram::default();
        (0..reads).for_each(|n| histogram.add(80_000 + n as u64));
        Slot {
            mode,
            load: Load {
                large: false,
                depth,
            },
            took: Duration::from_millis(500),
            reads: histogram,
            busy: Some(Duration::from_millis(busy)),
        }
    }

    #[test]
    fn rounds_are_paired_and_types_kept_apart() {
        let mut slots = Vec::new();
        for (n, mode) in [Mode::Strict, Mode::Lazy, Mode::Lazy, Mode::Strict]
            .into_iter()
            .cycle()
            .take(8)
            .enumerate()
        {
            let reads = match mode {
                Mode::Strict => 100 + n,
                Mode::Lazy => 150 + n,
            };
            slots.push(slot(mode, 16, reads, 10));
        }
        // Large reads at the same depth are another matter.
        for n in 0..8 {
            let mut large = slot([Mode::Strict, Mode::Lazy][n % 2], 16, 7, 10);
            large.load.large = true;
            slots.push(large);
        }
        assert_eq!(measurements(&slots, true)[0].reads, 28);
        let large = comparisons(&slots, true)[0].reads_per_second;
        assert!(!large.unwrap().is_difference());
        let measured = measurements(&slots, false);
        assert_eq!(measured.len(), 2);
        assert_eq!(
            (measured[0].mode, measured[0].queue_depth),
            (Mode::Strict, 16)
        );
        assert_eq!(measured[0].reads, 400 + 3 + 4 + 7);
        assert!((measured[1].reads_per_second - 307.0).abs() < 0.5);
        assert!((measured[1].median_us.unwrap() - 80.0).abs() < 2.0);
        assert!((measured[0].cpu_us_per_read.unwrap() - 40_000.0 / 414.0).abs() < 0.1);
        let compared = comparisons(&slots, false);
        assert_eq!(compared.len(), 1);
        let reads = compared[0].reads_per_second.unwrap();
        assert!(reads.is_difference() && reads.low > 1.35 && reads.high < 1.65);
        assert!(compared[0].cpu_per_read.unwrap().high < 1.0);
    }

    #[test]
    fn a_slot_without_processor_time_is_not_compared() {
        let mut slots: Vec<Slot> = (0..8)
            .map(|n| slot([Mode::Strict, Mode::Lazy][n % 2], 1, 50, 10))
            .collect();
        slots[3].busy = Some(Duration::ZERO);
        let compared = comparisons(&slots, false);
        assert_eq!(compared[0].cpu_per_read, None);
        assert!(compared[0].reads_per_second.is_some());
        slots[3].busy = None;
        assert_eq!(measurements(&slots, false)[1].cpu_us_per_read, None);
        assert!(comparisons(&slots[..1], false).is_empty());
    }
}

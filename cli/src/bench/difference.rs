// SPDX-License-Identifier: GPL-2.0-only
//! The difference of one figure between the two types, and its description, from values alone.

use super::measure::figures::Comparison;
use super::measure::schedule::LARGE_READ_SIZE;
use super::measure::stats::Ratio;

/// The smallest gain, as a fraction, for which giving up protection may be worthwhile, as far as this program has an opinion: a
/// smaller one is noticed only by measuring.
const MIN_WORTHWHILE_GAIN: f64 = 0.03;

/// A figure of both types, compared, and its name.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    /// How many times better lazy is: above 1 if it is better, below 1 if strict is.
    pub gain: Ratio,
    /// The queue depth.
    pub depth: usize,
    /// Whether the reads were large.
    pub large: bool,
    /// Whether it is processor time, and not the rate of reads.
    pub cpu: bool,
}

impl Change {
    /// Every figure in `comparisons`, which are of large reads or of normal ones, that has limits, significant or not.
    pub fn all(comparisons: &[Comparison], large: bool) -> impl Iterator<Item = Self> + '_ {
        let both = move |c: &Comparison| {
            let depth = c.queue_depth;
            let reads = c.reads_per_second.map(|gain| (gain, false));
            let cpu = c.cpu_per_read.map(|ratio| (ratio.inverse(), true));
            let found = [reads, cpu].into_iter().flatten();
            found.map(move |(gain, cpu)| Self {
                gain,
                depth,
                large,
                cpu,
            })
        };
        comparisons.iter().flat_map(both)
    }

    /// Whether lazy is better.
    #[must_use]
    pub fn is_gain(&self) -> bool {
        self.gain.low > 1.0
    }

    /// Whether strict is better.
    #[must_use]
    pub fn is_loss(&self) -> bool {
        self.gain.high < 1.0
    }

    /// Whether it is large enough to matter.
    #[must_use]
    pub fn is_large(&self) -> bool {
        (self.gain.ratio - 1.0).abs() >= MIN_WORTHWHILE_GAIN
    }

    /// `12.0 % more reads in a second at queue depth 16 (9.1 % to 15.2 %)`.
    fn words(&self) -> String {
        let Self {
            gain,
            depth,
            large,
            cpu,
        } = *self;
        let size = match large {
            true => format!(" of {} KiB", LARGE_READ_SIZE / 1024),
            false => String::new(),
        };
        // For processor time, name the part of it that is saved.
        let shown = if cpu { gain.inverse() } else { gain };
        let part = |ratio: f64| (ratio - 1.0).abs() * 100.0;
        let (mut from, mut to) = (part(shown.low), part(shown.high));
        if from > to {
            std::mem::swap(&mut from, &mut to);
        }
        let more = shown.ratio > 1.0;
        let what = match (cpu, more) {
            (false, true) => format!("more reads{size} in a second"),
            (false, false) => format!("fewer reads{size} in a second"),
            (true, true) => format!("more processor time for each read{size}"),
            (true, false) => format!("less processor time for each read{size}"),
        };
        format!(
            "{:.1} % {what} at queue depth {depth} ({from:.1} % to {to:.1} %)",
            part(shown.ratio)
        )
    }
}

/// Describes the largest of the differences that `wanted` selects, of reads and of processor time.
#[must_use]
pub fn largest(changes: &[Change], wanted: impl Fn(&Change) -> bool) -> Vec<String> {
    let of = |cpu: bool| {
        let these = changes.iter().filter(|c| c.cpu == cpu && wanted(c));
        let size = |c: &&Change| c.gain.ratio.ln().abs();
        these.max_by(|a, b| size(a).total_cmp(&size(b)))
    };
    let both = [of(false), of(true)].into_iter().flatten();
    both.map(Change::words).collect()
}

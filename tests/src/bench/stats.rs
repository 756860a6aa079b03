// SPDX-License-Identifier: GPL-2.0-only
//! Medians, and how sure a ratio of two of them is. The same figures always give the same answer.

use crate::guest::random::Random;

/// How many times the rounds are drawn anew.
const DRAWS: usize = 2000;
/// How much of what came of that the interval leaves out at each end: it covers 95 %.
const LEFT_OUT: f64 = 0.025;
/// Any number, as long as it stays the same.
const SEED: u64 = 20_210_806;

/// The values of one case in five numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Summary {
    /// How many rounds there were.
    pub rounds: usize,
    /// The smallest.
    pub least: f64,
    /// A quarter of the rounds are below.
    pub low: f64,
    /// The one in the middle.
    pub median: f64,
    /// A quarter of the rounds are above.
    pub high: f64,
    /// The largest.
    pub most: f64,
}

impl Summary {
    /// Of these values; nothing if there are none.
    pub fn of(values: &[u64]) -> Option<Self> {
        let sorted = sorted(values);
        Some(Self {
            rounds: sorted.len(),
            least: *sorted.first()?,
            low: quantile(&sorted, 0.25),
            median: quantile(&sorted, 0.5),
            high: quantile(&sorted, 0.75),
            most: *sorted.last()?,
        })
    }
}

/// A ratio of two medians, and the interval it is in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Ratio {
    /// The ratio.
    pub ratio: f64,
    /// The lower end of the interval.
    pub low: f64,
    /// Its upper end.
    pub high: f64,
}

impl Ratio {
    /// Of the medians of `top` and `bottom`, with the percentile interval of the bootstrap over the rounds. Nothing if one of
    /// them has no rounds, or the lower one can be zero.
    pub fn of(top: &[u64], bottom: &[u64]) -> Option<Self> {
        let mut random = Random::new(SEED);
        let ratio = median(&sorted(top))? / median(&sorted(bottom)).filter(|m| *m > 0.0)?;
        let mut ratios = Vec::with_capacity(DRAWS);
        for _ in 0..DRAWS {
            let above = median(&sorted(&again(top, &mut random)))?;
            let below = median(&sorted(&again(bottom, &mut random)))?;
            ratios.push(above / Some(below).filter(|m| *m > 0.0)?);
        }
        ratios.sort_by(f64::total_cmp);
        Some(Self {
            ratio,
            low: quantile(&ratios, LEFT_OUT),
            high: quantile(&ratios, 1.0 - LEFT_OUT),
        })
    }
}

/// As many of `values` as there are, drawn at random, any of them more than once.
fn again(values: &[u64], random: &mut Random) -> Vec<u64> {
    let count = values.len() as u64;
    let pick = |_: &u64| {
        let index = usize::try_from(random.below(count)).unwrap_or_default();
        values.get(index).copied().unwrap_or_default()
    };
    values.iter().map(pick).collect()
}

#[expect(
    clippy::cast_precision_loss,
    reason = "a figure of 2^53 nanoseconds is a hundred days"
)]
fn sorted(values: &[u64]) -> Vec<f64> {
    let mut values: Vec<f64> = values.iter().map(|value| *value as f64).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(sorted: &[f64]) -> Option<f64> {
    (!sorted.is_empty()).then(|| quantile(sorted, 0.5))
}

/// The value below which this part of `sorted` lies; between two of them, in proportion.
#[expect(
    clippy::cast_precision_loss,
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "a place in a list that is in memory"
)]
fn quantile(sorted: &[f64], part: f64) -> f64 {
    let place = part * sorted.len().saturating_sub(1) as f64;
    let at = |index: usize| sorted.get(index).or(sorted.last()).copied();
    let (below, above) = (place.floor(), place.ceil());
    let lower = at(below as usize).unwrap_or_default();
    let upper = at(above as usize).unwrap_or_default();
    lower + (upper - lower) * (place - below)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_summary_has_the_quartiles() {
        let summary = Summary::of(&[5, 1, 4, 2, 3]).unwrap();
        let Summary {
            rounds,
            least,
            low,
            median,
            high,
            most,
        } = summary;
        assert_eq!(
            (rounds, least, low, median, high, most),
            (5, 1.0, 2.0, 3.0, 4.0, 5.0)
        );
        assert_eq!(Summary::of(&[1, 2]).unwrap().median, 1.5);
        assert_eq!(Summary::of(&[]), None);
    }

    #[test]
    fn a_ratio_is_in_its_interval_and_always_the_same() {
        let slow: Vec<u64> = (0..30).map(|n| 2000 + 7 * n).collect();
        let fast: Vec<u64> = (0..30).map(|n| 1000 + 3 * n).collect();
        let ratio = Ratio::of(&slow, &fast).unwrap();
        assert!((1.9..2.1).contains(&ratio.ratio), "{ratio:?}");
        assert!(
            ratio.low < ratio.ratio && ratio.ratio < ratio.high,
            "{ratio:?}"
        );
        assert!(ratio.high - ratio.low < 0.2, "{ratio:?}");
        assert_eq!(Ratio::of(&slow, &fast), Some(ratio));
    }

    #[test]
    fn more_spread_makes_a_wider_interval() {
        let steady = [100, 101, 99, 100, 102, 98, 100];
        let wild = [20, 300, 100, 50, 180, 90, 140];
        let width = |r: Ratio| r.high - r.low;
        let narrow = Ratio::of(&steady, &steady).unwrap();
        let wide = Ratio::of(&wild, &steady).unwrap();
        assert!(width(wide) > 5.0 * width(narrow), "{wide:?} {narrow:?}");
    }

    #[test]
    fn nothing_comes_of_nothing() {
        assert_eq!(Ratio::of(&[], &[1]), None);
        assert_eq!(Ratio::of(&[1], &[]), None);
        assert_eq!(Ratio::of(&[1, 2], &[0, 0]), None);
    }
}

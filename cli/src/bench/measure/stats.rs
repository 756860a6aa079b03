// SPDX-License-Identifier: GPL-2.0-only
//! The statistical significance of a difference.
//!
//! In each round both types are measured one after the other, which makes a pair. What counts is the ratio within each pair: what
//! drifts more slowly than a round (heat, other work, a disk that tidies up) is in both halves of it and cancels. The logarithms of
//! these ratios are taken to be normally distributed, and Student's t says within what limits their mean is.
//!
//! Many comparisons are made at once, and one in twenty would look like a difference by chance. So the limits are those of
//! Bonferroni: wide enough that all of them hold together with 95 % confidence.

use serde::Serialize;

/// The confidence that all limits hold together, in percent.
pub const CONFIDENCE: u32 = 95;
/// The smallest number of pairs for which limits are computed.
pub const MIN_PAIRS: usize = 4;

/// Student's t at 1 − 0.05 / 12 / 2 (two figures of each of the six loads), for 3 and more degrees of freedom.
const T: [f64; 13] = [
    7.940, 5.885, 4.983, 4.486, 4.174, 3.962, 3.808, 3.691, 3.600, 3.527, 3.467, 3.417, 3.375,
];

/// A ratio, and the limits within which it is.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Ratio {
    /// The geometric mean over all pairs.
    pub ratio: f64,
    /// The lower limit.
    pub low: f64,
    /// The upper limit.
    pub high: f64,
}

impl Ratio {
    /// Whether 1, which is no difference, is outside the limits.
    #[must_use]
    pub fn is_difference(&self) -> bool {
        self.low > 1.0 || self.high < 1.0
    }

    /// One divided by it.
    #[must_use]
    pub fn inverse(&self) -> Self {
        Self {
            ratio: self.ratio.recip(),
            low: self.high.recip(),
            high: self.low.recip(),
        }
    }
}

/// The second of each pair divided by the first. `None` if there are too few pairs, or one holds something else than a number
/// above zero: a round in which nothing was seen says nothing about a ratio, and leaving it out would be choosing.
#[must_use]
pub fn paired_ratio(pairs: &[(f64, f64)]) -> Option<Ratio> {
    let is_usable = |value: f64| value.is_finite() && value > 0.0;
    let usable = pairs.iter().all(|(a, b)| is_usable(*a) && is_usable(*b));
    if pairs.len() < MIN_PAIRS || !usable {
        return None;
    }
    let logs: Vec<f64> = pairs.iter().map(|(a, b)| (b / a).ln()).collect();
    let count = logs.len() as f64;
    let mean = logs.iter().sum::<f64>() / count;
    let squares: f64 = logs.iter().map(|log| (log - mean).powi(2)).sum();
    let error = (squares / (count - 1.0) / count).sqrt();
    // With more pairs than the table has, the limits are a little wider than they need be.
    let t = T.get(pairs.len() - MIN_PAIRS).or(T.last())?;
    Some(Ratio {
        ratio: mean.exp(),
        low: (mean - t * error).exp(),
        high: (mean + t * error).exp(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Numbers that look like noise, evenly from -1 to 1.
    fn noise(seed: u64) -> impl Iterator<Item = f64> {
        let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
        std::iter::repeat_with(move || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state >> 11) as f64 / (1_u64 << 52) as f64 - 1.0
        })
    }

    fn pairs(count: usize, ratio: f64, spread: f64, seed: u64) -> Vec<(f64, f64)> {
        let mut noise = noise(seed);
        let mut value = |middle: f64| middle * (1.0 + spread * noise.next().unwrap());
        (0..count)
            // Half as fast at the end as at the beginning, which must not matter.
            .map(|n| 1000.0 / (1.0 + n as f64 / count as f64))
            .map(|middle| (value(middle), value(middle * ratio)))
            .collect()
    }

    #[test]
    fn a_difference_is_found_in_spite_of_drift() {
        let found = paired_ratio(&pairs(8, 1.2, 0.02, 7)).unwrap();
        assert!(found.is_difference(), "{found:?}");
        assert!(found.low < 1.2 && found.high > 1.2, "{found:?}");
        assert!(found.inverse().is_difference() && found.inverse().high < 1.0);
    }

    #[test]
    fn no_difference_is_rarely_taken_for_one() {
        let wrong = (0..2000).filter(|seed| {
            let found = paired_ratio(&pairs(8, 1.0, 0.1, *seed + 1)).unwrap();
            found.is_difference()
        });
        // One in 240 is what the limits promise.
        let wrong = wrong.count();
        assert!(wrong < 40, "{wrong} of 2000");
    }

    #[test]
    fn limits_by_hand() {
        // Logarithms of 0.1, 0.2, 0.3 and 0.4: their mean is 0.25, its standard error 0.0645.
        let logs = [0.1_f64, 0.2, 0.3, 0.4].map(|log| (1.0, log.exp()));
        let found = paired_ratio(&logs).unwrap();
        assert!((found.ratio.ln() - 0.25).abs() < 1e-9);
        assert!((found.high.ln() - (0.25 + 7.940 * 0.064_549_7)).abs() < 1e-5);
        assert!(!found.is_difference());
    }

    #[test]
    fn what_cannot_be_compared_is_not() {
        assert_eq!(paired_ratio(&[(1.0, 2.0); 3]), None);
        assert_eq!(paired_ratio(&[(1.0, 0.0); 8]), None);
        assert_eq!(paired_ratio(&[(f64::NAN, 1.0); 8]), None);
        // Exactly equal, as with a clock that is too coarse: the limits are the value.
        let same = paired_ratio(&[(2.0, 2.0); 40]).unwrap();
        assert!(!same.is_difference());
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The axes of plots.

/// A range of more than this many times the smallest value is drawn on a logarithmic scale.
const WIDE: f64 = 8.0;

/// Where values are on a line.
#[derive(Clone, Debug)]
pub struct Scale {
    low: f64,
    high: f64,
    log: bool,
    /// Where `low` is drawn, and where `high`.
    ends: (f64, f64),
}

impl Scale {
    /// One for values from `least` to `most`.
    pub fn new(least: f64, most: f64, ends: (f64, f64)) -> Self {
        if least > 0.0 && most / least > WIDE {
            return Self::log(least, most, ends);
        }
        let high = if most > 0.0 { most * 1.05 } else { 1.0 };
        Self {
            low: 0.0,
            high,
            log: false,
            ends,
        }
    }

    /// A logarithmic one.
    pub fn log(least: f64, most: f64, ends: (f64, f64)) -> Self {
        Self {
            low: least / 1.3,
            high: most * 1.3,
            log: true,
            ends,
        }
    }

    /// Where a value is drawn.
    pub fn at(&self, value: f64) -> f64 {
        let part = match self.log {
            true => (value.max(self.low) / self.low).ln() / (self.high / self.low).ln(),
            false => (value - self.low) / (self.high - self.low),
        };
        let (low, high) = self.ends;
        low + (high - low) * part.clamp(0.0, 1.0)
    }

    /// Round values on it.
    pub fn ticks(&self) -> Vec<f64> {
        if self.log {
            let decades = (self.high / self.low).log10();
            let steps: &[f64] = match decades {
                d if d < 1.5 => &[1.0, 2.0, 5.0],
                d if d < 3.0 => &[1.0, 3.0],
                _ => &[1.0],
            };
            let first = self.low.log10().floor();
            let powers = (0..16).map(|n| 10f64.powf(first + f64::from(n)));
            let all = powers.flat_map(|power| steps.iter().map(move |step| power * step));
            return all.filter(|t| (self.low..=self.high).contains(t)).collect();
        }
        let rough = self.high / 5.0;
        let power = 10f64.powf(rough.log10().floor());
        let step = [1.0, 2.0, 5.0, 10.0]
            .map(|n| n * power)
            .into_iter()
            .find(|step| *step >= rough)
            .unwrap_or(rough);
        let ticks = (0..12).map(|n| f64::from(n) * step);
        ticks.take_while(|tick| *tick <= self.high).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_on_the_scale() {
        let linear = Scale::new(90.0, 100.0, (0.0, 1.0));
        assert_eq!(linear.ticks(), [0.0, 50.0, 100.0]);
        let log = Scale::new(1.0, 100_000.0, (0.0, 1.0));
        assert_eq!(log.ticks().first(), Some(&1.0));
        assert_eq!(log.ticks().len(), 6);
        for scale in [linear, log] {
            let places: Vec<f64> = scale.ticks().into_iter().map(|t| scale.at(t)).collect();
            assert!(places.windows(2).all(|p| p[0] < p[1]), "{places:?}");
        }
    }
}

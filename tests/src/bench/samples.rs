// SPDX-License-Identifier: GPL-2.0-only
//! Figures as they come: what was measured, in which case, one value for each round.

use anyhow::{Context as _, Result};

use crate::report::Section;

/// How the key of a fact begins that carries figures; `measurement:case` follows, and the values are its text.
const KEY: &str = "sample:";

/// What the values of a measurement count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// Things.
    Count,
    /// Bytes of memory.
    Bytes,
}

impl Unit {
    /// The name says it: `-count` and `-bytes` at its end, else it is a time.
    pub fn of(measurement: &str) -> Self {
        match measurement.rsplit_once('-') {
            Some((_, "count")) => Self::Count,
            Some((_, "bytes")) => Self::Bytes,
            _ => Self::Time,
        }
    }

    /// As programs are told.
    pub fn name(self) -> &'static str {
        match self {
            Self::Time => "nanoseconds",
            Self::Count => "count",
            Self::Bytes => "bytes",
        }
    }

    /// A value for people, with three digits that count.
    pub fn text(self, value: f64) -> String {
        let scales: &[(f64, &str)] = match self {
            Self::Time => &[(1e9, " s"), (1e6, " ms"), (1e3, " µs"), (1.0, " ns")],
            Self::Count => &[(1.0, "")],
            Self::Bytes => &[(1_048_576.0, " MiB"), (1024.0, " KiB"), (1.0, " B")],
        };
        let (scale, unit) = scales
            .iter()
            .find(|(scale, _)| value >= *scale)
            .or(scales.last())
            .copied()
            .unwrap_or((1.0, ""));
        let scaled = value / scale;
        if scaled == scaled.trunc() {
            return format!("{scaled:.0}{unit}");
        }
        format!("{}{unit}", digits(scaled))
    }
}

/// A number with three digits that count, but never more than four behind the point.
pub fn digits(value: f64) -> String {
    let places = match value.abs() {
        v if v >= 99.95 => 0,
        v if v >= 9.995 => 1,
        v if v >= 0.9995 => 2,
        v if v >= 0.09995 => 3,
        _ => 4,
    };
    format!("{value:.places$}")
}

/// The values of one case of one measurement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Series {
    /// What was measured.
    pub measurement: String,
    /// In which case.
    pub case: String,
    /// One value for each round.
    pub values: Vec<u64>,
}

impl Series {
    /// What its values count.
    pub fn unit(&self) -> Unit {
        Unit::of(&self.measurement)
    }

    /// The case, where it is a number.
    pub fn number(&self) -> Option<u32> {
        self.case.parse().ok()
    }
}

/// All figures.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Samples(Vec<Series>);

impl Samples {
    /// Adds values to those that are there.
    pub fn add(&mut self, measurement: &str, case: &str, values: impl IntoIterator<Item = u64>) {
        let known = self.0.iter().position(|series| {
            series.measurement.as_str() == measurement && series.case.as_str() == case
        });
        match known.and_then(|index| self.0.get_mut(index)) {
            Some(series) => series.values.extend(values),
            None => self.0.push(Series {
                measurement: measurement.to_owned(),
                case: case.to_owned(),
                values: values.into_iter().collect(),
            }),
        }
    }

    /// Adds all figures among the facts of a scenario; other facts are not ours.
    ///
    /// # Errors
    /// When a fact has the key of figures, and is something else.
    pub fn add_facts(&mut self, section: &Section) -> Result<()> {
        for (key, text) in &section.facts {
            let Some(name) = key.strip_prefix(KEY) else {
                continue;
            };
            let (measurement, case) = name
                .split_once(':')
                .with_context(|| format!("`{key}` names no case"))?;
            let values = text
                .split_ascii_whitespace()
                .map(|word| {
                    word.parse()
                        .with_context(|| format!("`{word}`, a figure of `{key}`, is no number"))
                })
                .collect::<Result<Vec<u64>>>()?;
            self.add(measurement, case, values);
        }
        Ok(())
    }

    /// The values of a case, if it was measured.
    pub fn values(&self, measurement: &str, case: &str) -> Option<&[u64]> {
        let found = self
            .0
            .iter()
            .find(|series| series.measurement == measurement && series.case == case);
        found
            .map(|series| series.values.as_slice())
            .filter(|values| !values.is_empty())
    }

    /// The names of what was measured, in the order in which it came.
    pub fn measurements(&self) -> Vec<&str> {
        let mut names = Vec::new();
        for series in &self.0 {
            if !names.contains(&series.measurement.as_str()) {
                names.push(series.measurement.as_str());
            }
        }
        names
    }

    /// The cases of a measurement that have values: by size where they are numbers, else in the order in which they came.
    pub fn cases(&self, measurement: &str) -> Vec<&Series> {
        let mut cases: Vec<&Series> = self
            .0
            .iter()
            .filter(|series| series.measurement == measurement && !series.values.is_empty())
            .collect();
        if cases.iter().all(|series| series.number().is_some()) {
            cases.sort_by_key(|series| series.number());
        }
        cases
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::Report;

    fn section(text: &str) -> Section {
        Report::parse(text).sections.remove(0)
    }

    #[test]
    fn facts_with_figures_are_put_together() {
        let facts = section(
            "scenario bench\nfact sample:gap:none 1 2 3\nfact groups 64\nfact sample:together:64 7\n\
             fact sample:gap:none 4\nfact sample:together:8 5\nend bench\n",
        );
        let mut samples = Samples::default();
        samples.add_facts(&facts).unwrap();
        assert_eq!(samples.values("gap", "none"), Some([1, 2, 3, 4].as_slice()));
        assert_eq!(samples.measurements(), ["gap", "together"]);
        let cases: Vec<_> = samples.cases("together").iter().map(|s| &s.case).collect();
        assert_eq!(cases, ["8", "64"]);
        assert_eq!(samples.values("gap", "rebind"), None);
    }

    #[test]
    fn what_is_no_figure_is_an_error() {
        let mut samples = Samples::default();
        for (fact, why) in [
            ("sample:gap 1", "names no case"),
            ("sample:gap:none 1.5", "no number"),
        ] {
            let error = samples
                .add_facts(&section(&format!("scenario a\nfact {fact}\n")))
                .unwrap_err();
            assert!(error.to_string().contains(why), "{error}");
        }
    }

    #[test]
    fn values_read_well() {
        let time = |value: f64| Unit::of("gap").text(value);
        assert_eq!(time(950.0), "950 ns");
        assert_eq!(time(1_234.0), "1.23 µs");
        assert_eq!(time(23_456_789.0), "23.5 ms");
        assert_eq!(time(2e9), "2 s");
        assert_eq!(Unit::of("failed-count").text(0.0), "0");
        assert_eq!(Unit::of("list-bytes").text(5_242_880.0), "5 MiB");
        assert_eq!(digits(0.01), "0.0100");
        assert_eq!(digits(1.0), "1.00");
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Metrics as text, in two formats: OpenMetrics 1.0 (<https://prometheus.io/docs/specs/om/open_metrics_spec/>), and the
//! older text format of Prometheus, which is all that the textfile collector of the node exporter reads.

use std::fmt::Write;

/// Which format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// OpenMetrics 1.0.
    OpenMetrics,
    /// The text format of Prometheus, version 0.0.4.
    Prometheus,
}

/// What kind of values a family has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricKind {
    /// They go up and down.
    Gauge,
    /// They only go up, until somebody begins anew.
    Counter,
    /// Always 1: what is to be said is in the labels.
    Info,
}

/// Values of one kind, told apart by their labels.
#[derive(Clone, Debug)]
pub struct Family {
    name: String,
    kind: MetricKind,
    help: &'static str,
    unit: Option<&'static str>,
    samples: Vec<(String, String)>,
}

impl Family {
    /// One without values. What is counted in a unit has its name at the end of `name`.
    #[must_use]
    pub fn new(name: impl Into<String>, kind: MetricKind, help: &'static str) -> Self {
        let name = name.into();
        let unit = name.ends_with("_seconds").then_some("seconds");
        Self {
            name,
            kind,
            help,
            unit,
            samples: Vec::new(),
        }
    }

    /// With another value. The labels of each must be others.
    #[must_use]
    pub fn with(mut self, labels: &[(&str, &str)], value: impl ToString) -> Self {
        let labels: Vec<String> = labels
            .iter()
            .map(|(name, value)| format!("{name}=\"{}\"", escape(value)))
            .collect();
        let labels = match labels.is_empty() {
            true => String::new(),
            false => format!("{{{}}}", labels.join(",")),
        };
        self.samples.push((labels, value.to_string()));
        self
    }

    fn write(&self, format: Format, text: &mut String) {
        if self.samples.is_empty() {
            return;
        }
        let (kind, suffix) = match (self.kind, format) {
            (MetricKind::Gauge, _) => ("gauge", ""),
            (MetricKind::Counter, _) => ("counter", "_total"),
            (MetricKind::Info, Format::OpenMetrics) => ("info", "_info"),
            (MetricKind::Info, Format::Prometheus) => ("gauge", "_info"),
        };
        let name = &self.name;
        // Of the family the older format knows no name but that of its samples.
        let family = match format {
            Format::OpenMetrics => name.clone(),
            Format::Prometheus => format!("{name}{suffix}"),
        };
        // A String takes all that is written to it.
        let _ = writeln!(text, "# TYPE {family} {kind}");
        if let (Some(unit), Format::OpenMetrics) = (self.unit, format) {
            let _ = writeln!(text, "# UNIT {family} {unit}");
        }
        let _ = writeln!(text, "# HELP {family} {}", self.help);
        for (labels, value) in &self.samples {
            let _ = writeln!(text, "{name}{suffix}{labels} {value}");
        }
    }
}

/// `text` so that it is only text in a label.
fn escape(text: &str) -> String {
    let text = text.replace('\\', "\\\\").replace('"', "\\\"");
    text.replace('\n', "\\n")
}

/// All of `families`. One without a value is left out: that it is not there says that nothing is known.
#[must_use]
pub fn text(families: &[Family], format: Format) -> String {
    let mut text = String::new();
    for family in families {
        family.write(format, &mut text);
    }
    if format == Format::OpenMetrics {
        text.push_str("# EOF\n");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn families() -> Vec<Family> {
        vec![
            Family::new("a_build", MetricKind::Info, "A.").with(&[("version", "1\"2\\3\n")], 1),
            Family::new("a_events", MetricKind::Counter, "B.").with(&[], 7),
            Family::new("a_last_seconds", MetricKind::Gauge, "C.").with(&[], 0.25),
            Family::new("a_none", MetricKind::Gauge, "D."),
        ]
    }

    #[test]
    fn open_metrics_names_the_family_and_ends() {
        let wanted = "\
            # TYPE a_build info\n# HELP a_build A.\n\
            a_build_info{version=\"1\\\"2\\\\3\\n\"} 1\n\
            # TYPE a_events counter\n# HELP a_events B.\na_events_total 7\n\
            # TYPE a_last_seconds gauge\n# UNIT a_last_seconds seconds\n# HELP a_last_seconds C.\n\
            a_last_seconds 0.25\n# EOF\n";
        assert_eq!(text(&families(), Format::OpenMetrics), wanted);
    }

    #[test]
    fn prometheus_names_the_samples() {
        let text = text(&families(), Format::Prometheus);
        assert!(text.contains("# TYPE a_build_info gauge\n"), "{text}");
        assert!(text.contains("# TYPE a_events_total counter\n"), "{text}");
        assert!(
            !text.contains("# UNIT") && !text.contains("# EOF"),
            "{text}"
        );
    }
}

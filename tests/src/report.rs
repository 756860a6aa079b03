// SPDX-License-Identifier: GPL-2.0-only
//! What the guest tells the host, one line at a time, over a serial line of its own.
//!
//! ```text
//! scenario NAME             a scenario starts; the lines up to the next one belong to it
//! check NAME ok DETAIL      something was looked at and is as it should be
//! check NAME FAIL DETAIL    … and is not
//! fact KEY VALUE            a figure, for people
//! say TEXT                  narration, for the demo
//! plug NAME                 the host is to plug a device in; it answers by doing so
//! end NAME                  the scenario came to its end
//! done                      the guest ran everything it was asked to
//! ```
//! Names and keys have no spaces; a line break inside a detail travels as `\n`.

use std::fmt;

/// One line of the report.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Line {
    /// A scenario starts.
    Scenario(String),
    /// Something was looked at: name, whether it is as it should be, and what was seen.
    Check(String, bool, String),
    /// A figure: key and value.
    Fact(String, String),
    /// Narration.
    Say(String),
    /// The host is to plug a device in.
    Plug(String),
    /// A scenario came to its end.
    End(String),
    /// The guest ran everything.
    Done,
}

impl Line {
    /// Reads one line; `None` for anything that is not of the language (firmware noise, a torn line).
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.trim_end_matches(['\r', '\n']);
        let (word, rest) = text.split_once(' ').unwrap_or((text, ""));
        let line = match word {
            "scenario" => Self::Scenario(rest.into()),
            "check" => {
                let mut parts = rest.splitn(3, ' ');
                let (name, verdict) = (parts.next()?, parts.next()?);
                let good = match verdict {
                    "ok" => true,
                    "FAIL" => false,
                    _ => return None,
                };
                Self::Check(name.into(), good, unfold(parts.next().unwrap_or_default()))
            }
            "fact" => {
                let (key, value) = rest.split_once(' ')?;
                Self::Fact(key.into(), unfold(value))
            }
            "say" => Self::Say(unfold(rest)),
            "plug" => Self::Plug(rest.into()),
            "end" => Self::End(rest.into()),
            "done" => Self::Done,
            _ => return None,
        };
        Some(line)
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Scenario(name) => write!(f, "scenario {name}"),
            Self::Check(name, good, detail) => {
                let verdict = if *good { "ok" } else { "FAIL" };
                write!(f, "check {name} {verdict} {}", fold(detail))
            }
            Self::Fact(key, value) => write!(f, "fact {key} {}", fold(value)),
            Self::Say(text) => write!(f, "say {}", fold(text)),
            Self::Plug(name) => write!(f, "plug {name}"),
            Self::End(name) => write!(f, "end {name}"),
            Self::Done => f.write_str("done"),
        }
    }
}

fn fold(text: &str) -> String {
    text.trim_end()
        .replace('\\', "\\\\")
        .replace('\r', "")
        .replace('\n', "\\n")
}

fn unfold(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '\\' {
            plain.push(letter);
            continue;
        }
        match letters.next() {
            Some('n') => plain.push('\n'),
            Some(other) => plain.push(other),
            None => plain.push('\\'),
        }
    }
    plain
}

/// Everything one scenario reported.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Section {
    /// The scenario's name.
    pub name: String,
    /// Checks in the order they were made: name, verdict, detail.
    pub checks: Vec<(String, bool, String)>,
    /// Figures.
    pub facts: Vec<(String, String)>,
    /// Whether the scenario came to its end.
    pub ended: bool,
}

impl Section {
    /// The value of a figure.
    pub fn fact(&self, key: &str) -> Option<&str> {
        let found = self.facts.iter().find(|(name, _)| name == key);
        found.map(|(_, value)| value.as_str())
    }

    /// What is wrong with this section, one entry per failed check, and one when the end or every check is missing.
    pub fn failures(&self) -> Vec<String> {
        let failed = self.checks.iter().filter(|(_, good, _)| !good);
        let mut list: Vec<String> = failed
            .map(|(name, _, detail)| format!("{name}: {detail}"))
            .collect();
        if !self.ended {
            let last = self
                .checks
                .last()
                .map_or("none was made", |(name, _, _)| name);
            list.push(format!(
                "the scenario did not come to its end; last check: {last}"
            ));
        } else if self.checks.is_empty() {
            list.push("the scenario checked nothing".into());
        }
        list
    }
}

/// The report of one run of a virtual machine.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// One section for each scenario that started, in order.
    pub sections: Vec<Section>,
    /// Whether the guest ran everything it was asked to.
    pub done: bool,
}

impl Report {
    /// Reads a whole report; lines that are not of the language are skipped.
    pub fn parse(text: &str) -> Self {
        let mut report = Self::default();
        for line in text.lines().filter_map(Line::parse) {
            report.add(line);
        }
        report
    }

    fn add(&mut self, line: Line) {
        if let Line::Scenario(name) = line {
            self.sections.push(Section {
                name,
                ..Section::default()
            });
            return;
        }
        if line == Line::Done {
            self.done = true;
            return;
        }
        let Some(section) = self.sections.last_mut() else {
            return;
        };
        match line {
            Line::Check(name, good, detail) => section.checks.push((name, good, detail)),
            Line::Fact(key, value) => section.facts.push((key, value)),
            Line::End(_) => section.ended = true,
            Line::Scenario(_) | Line::Say(_) | Line::Plug(_) | Line::Done => {}
        }
    }

    /// The section of one scenario.
    pub fn section(&self, name: &str) -> Option<&Section> {
        self.sections.iter().find(|section| section.name == name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_survives_the_journey() {
        let lines = [
            Line::Scenario("oracle".into()),
            Line::Check("tighten".into(), true, "2 lines\nand a \\ sign".into()),
            Line::Check("tighten".into(), false, String::new()),
            Line::Fact("longest-gap".into(), "12 ms".into()),
            Line::Say("hello".into()),
            Line::Plug("disk".into()),
            Line::End("oracle".into()),
            Line::Done,
        ];
        for line in lines {
            assert_eq!(Line::parse(&format!("{line}\r\n")), Some(line));
        }
    }

    #[test]
    fn noise_is_skipped() {
        assert_eq!(Line::parse("SeaBIOS (version 1.17)"), None);
        assert_eq!(Line::parse("check half"), None);
        assert_eq!(Line::parse("check name maybe"), None);
    }

    #[test]
    fn a_scenario_that_stops_half_way_fails() {
        let report =
            Report::parse("scenario a\ncheck x ok fine\nend a\nscenario b\ncheck y ok fine\n");
        assert!(report
            .section("a")
            .is_some_and(|section| section.failures().is_empty()));
        assert_eq!(
            report.section("b").map(|section| section.failures().len()),
            Some(1)
        );
        assert!(!report.done);
    }
}

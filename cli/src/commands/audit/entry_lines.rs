// SPDX-License-Identifier: GPL-2.0-only
//! The output of `audit log` and `watch`: a line for each change, as soon as it is known, so the columns have fixed widths.

use std::io::Write;

use iommuctl_policy::DomainType;
use jiff::tz::TimeZone;

use crate::audit::event::{Event, EventOutcome, Learned};
use crate::audit::history::changes::Entry;
use crate::audit::sentence;
use crate::sys::printable::printable;
use crate::terminal::output::Output;
use crate::terminal::{duration, style};

/// What is shown, line by line.
pub struct Shown {
    /// Whether the entries are elements of one JSON document, or a document each.
    one_document: bool,
    first: bool,
    zone: TimeZone,
}

impl Shown {
    /// Begins. With `endless` there is no end, so each entry stands for itself.
    pub fn begin(output: &mut Output, endless: bool) -> anyhow::Result<Self> {
        let shown = Self {
            one_document: !endless,
            first: true,
            zone: TimeZone::system(),
        };
        if output.is_json() {
            if shown.one_document {
                output.raw(b"{\n  \"version\": 1,\n  \"entries\": [")?;
            }
        } else if !output.is_quiet() {
            let head = style::HEADING;
            let columns = format!(
                "{head}{:<19}  {:>5}  {:<8}  {:<8}  {:<10}  {}{head:#}\n",
                "TIME", "GROUP", "WAS", "IS", "RESULT", "DEVICES, AND WHO"
            );
            output.raw(columns.as_bytes())?;
        }
        Ok(shown)
    }

    /// Shows one.
    pub fn entry(&mut self, entry: &Entry, output: &mut Output) -> anyhow::Result<()> {
        let mut text = Vec::new();
        if output.is_json() {
            let between = match (self.one_document, self.first) {
                (false, _) => "",
                (true, true) => "\n    ",
                (true, false) => ",\n    ",
            };
            text.extend_from_slice(between.as_bytes());
            serde_json::to_writer(&mut text, entry)?;
            if !self.one_document {
                text.push(b'\n');
            }
        } else if !output.is_quiet() {
            self.line(entry, &mut text)?;
        }
        self.first = false;
        output.raw(&text)
    }

    /// Shows one, and below it what it means, for people.
    pub fn explained(&mut self, entry: &Entry, output: &mut Output) -> anyhow::Result<()> {
        self.entry(entry, output)?;
        let meaning = sentence::meaning(&entry.event);
        if let (Some(meaning), false, false) = (meaning, output.is_json(), output.is_quiet()) {
            let dim = style::DIM;
            output.raw(format!("{:21}{dim}{meaning}{dim:#}\n", "").as_bytes())?;
        }
        Ok(())
    }

    /// Ends.
    pub fn end(&mut self, output: &mut Output) -> anyhow::Result<()> {
        if output.is_json() && self.one_document {
            let end: &[u8] = if self.first { b"]\n}\n" } else { b"\n  ]\n}\n" };
            output.raw(end)?;
        }
        Ok(())
    }

    fn line(&self, entry: &Entry, w: &mut Vec<u8>) -> std::io::Result<()> {
        let event = &entry.event;
        let time = event.time.to_zoned(self.zone.clone());
        let time = time.strftime("%Y-%m-%d %H:%M:%S");
        let (was, is) = (
            kind(event.old_type.as_deref()),
            kind(event.new_type.as_deref()),
        );
        let (was_style, is_style) = (style::of_type(was.as_ref()), style::of_type(is.as_ref()));
        let (result, result_style) = outcome(entry);
        writeln!(
            w,
            "{time:<19}  {:>5}  {was_style}{:<8}{was_style:#}  {is_style}{:<8}{is_style:#}  \
             {result_style}{result:<10}{result_style:#}  {}",
            event.group,
            style::type_text(was.as_ref()),
            style::type_text(is.as_ref()),
            rest(event),
        )
    }
}

fn kind(text: Option<&str>) -> Option<DomainType> {
    text.map(DomainType::from_kernel)
}

/// How it ended, in a word.
pub fn outcome(entry: &Entry) -> (&'static str, anstyle::Style) {
    let Some(outcome) = entry.event.outcome else {
        return ("not ended", style::BAD);
    };
    let style = match outcome {
        EventOutcome::Changed | EventOutcome::Unchanged => style::GOOD,
        EventOutcome::FirstSeen => style::DIM,
        EventOutcome::Refused | EventOutcome::Stopped => style::WARN,
        EventOutcome::Denied | EventOutcome::Failed | EventOutcome::TimedOut => style::BAD,
    };
    (outcome.as_str(), style)
}

/// The devices, who did it, and what went wrong.
fn rest(event: &Event) -> String {
    let names: Vec<&str> = event.devices.iter().map(|d| d.name.as_str()).collect();
    let mut words = vec![names.join(", ")];
    let failed = event.outcome.is_none_or(EventOutcome::is_failure);
    if let (true, Some(requested)) = (failed, &event.requested) {
        words.push(format!("wanted {requested}"));
    }
    if let Some(took) = event.milliseconds.filter(|_| !failed) {
        words.push(format!("in {}", duration::milliseconds(took)));
    }
    match (sentence::by(&event.who), event.learned) {
        (Some(by), _) => words.push(format!("by {by}")),
        (None, Learned::Comparison) if event.outcome != Some(EventOutcome::FirstSeen) => {
            words.push("by nobody knows whom: found by comparison".to_owned());
        }
        _ => {}
    }
    if let Some(route) = event.route.as_deref().filter(|route| *route == "rebind") {
        words.push(format!("by {route}"));
    }
    if let (true, Some(message)) = (failed, &event.message) {
        words.push(message.clone());
    }
    words.retain(|word| !word.is_empty());
    printable(&words.join("; "))
}

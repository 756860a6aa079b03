// SPDX-License-Identifier: GPL-2.0-only
//! The output of `audit report` as one page of HTML, which needs no other file, no network and no script.
//!
//! Whatever comes from the log is written by others: it only gets into the page through [`safe`], and the page forbids itself
//! to load or run anything.

use std::fmt::{self, Write};

use jiff::tz::TimeZone;
use jiff::Timestamp;

use super::html_words::{about, details, happened, known, name, share, summary, unprotected};
use super::text::{duration, state, verdict, when};
use super::{DeviceHistoryReport, PastReport, SpanReport};
use crate::audit::event::{EventOutcome, Learned};
use crate::audit::history::devices::Change;
use crate::audit::history::spans::{State, States};

const STYLE: &str = include_str!("page.css");

/// How wide a span must be for each letter of its name, in percent, so that it fits.
const LETTER_WIDTH: f64 = 1.25;
/// How many times are written below the timelines.
const MAX_TICKS: i64 = 6;

/// The whole page.
pub fn page(report: &PastReport) -> String {
    let mut page = Page {
        text: String::new(),
        zone: TimeZone::system(),
        from: report.from.as_millisecond(),
        to: report.to.as_millisecond(),
    };
    // A String takes all that is written to it.
    let _ = page.write(report);
    page.text
}

/// `text` so that it is only text in HTML, in an attribute too, and cannot reorder what is around it.
fn safe(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            // What changes the direction of writing.
            '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => {
                safe.push('?');
            }
            c if c.is_control() => safe.push('?'),
            c => safe.push(c),
        }
    }
    safe
}

/// A class, a name and a sentence for what a device was.
fn explained(state: State) -> (&'static str, &'static str, &'static str) {
    match state {
        State::Dma => (
            "strict",
            "strict",
            "<code>DMA</code>: the device loses access to memory the moment the system takes it back.",
        ),
        State::DmaFq => (
            "lazy",
            "lazy",
            "<code>DMA-FQ</code>: the device keeps access to memory that was taken back for up to 10 ms. Faster, and less safe.",
        ),
        State::Identity => (
            "none",
            "none",
            "<code>identity</code>: the device can reach all memory at any time. There is no protection.",
        ),
        State::Blocked => (
            "strict",
            "blocked",
            "<code>blocked</code>: the device can reach no memory at all.",
        ),
        State::Other => (
            "other",
            "other",
            "A type this program does not know, so it does not count as strict.",
        ),
        State::NotKnown => (
            "unknown",
            "not known",
            "The machine was off, the device was not there, or nobody watched.",
        ),
    }
}

/// The class and the name of a span.
fn class(states: States) -> (&'static str, &'static str) {
    if let Some(state) = states.single() {
        let (class, name, _) = explained(state);
        return (class, name);
    }
    match states
        .iter()
        .any(|s| matches!(s, State::Identity | State::Other))
    {
        true => ("turns worst-none", "in turn"),
        false => ("turns", "in turn"),
    }
}

struct Page {
    text: String,
    zone: TimeZone,
    from: i64,
    to: i64,
}

impl Page {
    fn write(&mut self, report: &PastReport) -> fmt::Result {
        let verdict = verdict(report);
        let class = match (report.not_strict, report.devices.is_empty()) {
            (0, false) => "good",
            (0, true) => "",
            _ => "warn",
        };
        let (from, to) = (when(report.from, &self.zone), when(report.to, &self.zone));
        let length = duration(self.to - self.from);
        write!(
            self.text,
            "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
             <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
             <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
             <meta name=\"referrer\" content=\"no-referrer\">\n\
             <title>DMA protection, {from} to {to}</title>\n<style>\n{STYLE}</style>\n</head>\n<body>\n\
             <header>\n<h1>DMA protection report</h1>\n<p class=\"headline {class}\">{}</p>\n\
             {}<p class=\"soft\">{from} to {to} ({length}). Times are of the time zone {}.</p>\n{}</header>\n<main>\n",
            safe(&verdict),
            unprotected(report),
            safe(&self.zone_name()),
            known(report, self.to - self.from),
        )?;
        self.legend(report)?;
        self.timeline(report)?;
        self.changes(report)?;
        write!(
            self.text,
            "</main>\n<footer>Made by <code>iommuctl audit report</code> {} from the audit log of this machine. \
             <code>iommuctl audit verify</code> says whether that log is as it was written.</footer>\n</body>\n</html>\n",
            env!("CARGO_PKG_VERSION")
        )
    }

    fn zone_name(&self) -> String {
        let name = self.zone.iana_name().map(str::to_owned);
        name.unwrap_or_else(|| {
            let now = Timestamp::from_millisecond(self.to).unwrap_or_default();
            now.to_zoned(self.zone.clone()).strftime("%:z").to_string()
        })
    }

    /// What the colours mean: those that are there, and the three that everybody should know.
    fn legend(&mut self, report: &PastReport) -> fmt::Result {
        self.text
            .write_str("<h2>What the colours mean</h2>\n<ul class=\"legend\">\n")?;
        let is_there = |state: State| report.devices.iter().any(|d| d.time(state) > 0);
        for state in [
            State::Dma,
            State::DmaFq,
            State::Identity,
            State::Blocked,
            State::Other,
            State::NotKnown,
        ] {
            let always = matches!(state, State::Dma | State::DmaFq | State::NotKnown);
            if always || is_there(state) {
                let (class, name, sentence) = explained(state);
                writeln!(
                    self.text,
                    "<li><span class=\"key {class}\"><b>{name}</b></span> <span>{sentence}</span></li>"
                )?;
            }
        }
        let mut spans = report.devices.iter().flat_map(|d| &d.spans);
        if spans.any(|span| span.types.single().is_none()) {
            self.text.write_str(
                "<li><span class=\"key turns\"><b>in turn</b></span> <span>It changed too often to draw each change.</span></li>\n",
            )?;
        }
        self.text.write_str("</ul>\n")
    }

    fn timeline(&mut self, report: &PastReport) -> fmt::Result {
        if report.devices.is_empty() {
            return Ok(());
        }
        self.text.write_str(
            "<h2>What each device was</h2>\n<div class=\"timeline\">\n\
             <div class=\"row head\"><div class=\"name\">Device</div><div class=\"bar-less\"></div>\
             <div class=\"share\">Strict, of the time known</div></div>\n",
        )?;
        for device in &report.devices {
            self.bar(device)?;
        }
        self.axis()?;
        self.text.write_str("</div>\n")
    }

    /// How far `at` is in the period, in percent.
    fn percent(&self, at: i64) -> f64 {
        let all = (self.to - self.from).max(1);
        #[expect(clippy::cast_precision_loss, reason = "it is a place on a page")]
        let share = (at - self.from).clamp(0, all) as f64 / all as f64;
        100.0 * share
    }

    fn bar(&mut self, device: &DeviceHistoryReport) -> fmt::Result {
        let name = safe(name(device));
        let about = safe(&about(device));
        let label = self.described(device);
        write!(
            self.text,
            "<div class=\"row\"><div class=\"name\">{name}<small>{about}</small></div>\n\
             <div class=\"bar\" role=\"img\" aria-label=\"{name}: {}\">",
            safe(&label)
        )?;
        // What is weaker lies above: a short time of it must not vanish below what is strict.
        let mut spans: Vec<&SpanReport> = device.spans.iter().collect();
        spans.sort_by_key(|span| match span.types.single() {
            Some(State::NotKnown) => 0,
            Some(state) if state.is_strict() => 1,
            _ => 2,
        });
        for span in spans {
            self.span(span)?;
        }
        let strict = device.time(State::Dma) + device.time(State::Blocked);
        let known = self.to - self.from - device.time(State::NotKnown);
        write!(
            self.text,
            "</div>\n<div class=\"share\">{}</div></div>\n",
            share(strict, known)
        )
    }

    fn span(&mut self, span: &SpanReport) -> fmt::Result {
        let (from, to) = (span.from.as_millisecond(), span.to.as_millisecond());
        let (left, right) = (self.percent(from), self.percent(to));
        let width = right - left;
        let (class, name) = class(span.types);
        let letters = u32::try_from(name.len()).unwrap_or(u32::MAX);
        let name = match width >= LETTER_WIDTH * f64::from(letters) {
            true => format!("<b>{name}</b>"),
            false => String::new(),
        };
        let title = format!(
            "{}: {} to {} ({})",
            state(span),
            when(span.from, &self.zone),
            when(span.to, &self.zone),
            duration(to - from)
        );
        write!(
            self.text,
            "<span class=\"{class}\" style=\"left:{left:.3}%;width:{width:.3}%\" title=\"{}\">{name}</span>",
            safe(&title)
        )
    }

    /// The timeline for those who do not see it.
    fn described(&self, device: &DeviceHistoryReport) -> String {
        let spans: Vec<String> = device
            .spans
            .iter()
            .take(20)
            .map(|span| {
                let (_, name) = class(span.types);
                format!("{name} from {}", when(span.from, &self.zone))
            })
            .collect();
        let more = device.spans.len().saturating_sub(20);
        let more = match more {
            0 => String::new(),
            more => format!(", and {more} more"),
        };
        format!("{}{more}", spans.join(", "))
    }

    fn axis(&mut self) -> fmt::Result {
        self.text
            .write_str("<div class=\"row\" aria-hidden=\"true\"><div class=\"name\"></div><div class=\"axis\">")?;
        let length = self.to - self.from;
        let format = match length / 86_400_000 {
            0..2 => "%H:%M",
            2..300 => "%-d %b",
            _ => "%b %Y",
        };
        for tick in 0..MAX_TICKS {
            let at = self.from + length / (MAX_TICKS - 1) * tick;
            let left = self.percent(at);
            let class = match tick {
                0 => " class=\"first\"",
                tick if tick == MAX_TICKS - 1 => " class=\"last\"",
                _ => "",
            };
            let time = Timestamp::from_millisecond(at).unwrap_or_default();
            let label = time.to_zoned(self.zone.clone());
            let label = label.strftime(format);
            write!(
                self.text,
                "<i style=\"left:{left:.2}%\"></i><span{class} style=\"left:{left:.2}%\">{label}</span>"
            )?;
        }
        self.text
            .write_str("</div><div class=\"share\"></div></div>\n")
    }

    fn changes(&mut self, report: &PastReport) -> fmt::Result {
        self.text.write_str("<h2>Who changed what</h2>\n")?;
        if report.nameless > 0 {
            writeln!(
                self.text,
                "<p class=\"soft\">{} changes or attempts are of groups whose devices are not known.</p>",
                report.nameless
            )?;
        }
        let told = |d: &&DeviceHistoryReport| !d.listed.is_empty() || d.counts.unrecorded > 0;
        let mut any = false;
        for device in report.devices.iter().filter(told) {
            any = true;
            self.device(device)?;
        }
        if !any {
            self.text
                .write_str("<p>Nobody changed anything, or tried to.</p>\n")?;
        }
        Ok(())
    }

    fn device(&mut self, device: &DeviceHistoryReport) -> fmt::Result {
        writeln!(
            self.text,
            "<section>\n<h3>{} <small class=\"soft\">{}</small></h3>\n<p class=\"soft\">{}</p>",
            safe(name(device)),
            safe(&about(device)),
            safe(&summary(device))
        )?;
        if device.listed.is_empty() {
            return self.text.write_str("</section>\n");
        }
        self.text.write_str(
            "<div class=\"wide\"><table>\n<colgroup><col class=\"time\"><col class=\"what\"><col class=\"whom\"><col></colgroup>\n<thead><tr><th scope=\"col\">Time</th><th scope=\"col\">What happened</th>\
             <th scope=\"col\">By whom</th><th scope=\"col\">Details</th></tr></thead>\n<tbody>\n",
        )?;
        for change in device.listed.iter().rev() {
            self.change(change)?;
        }
        if device.not_listed > 0 {
            writeln!(
                self.text,
                "<tr><td colspan=\"4\">… and {} more before</td></tr>",
                device.not_listed
            )?;
        }
        self.text
            .write_str("</tbody>\n</table></div>\n</section>\n")
    }

    fn change(&mut self, change: &Change) -> fmt::Result {
        let class = match change.outcome {
            EventOutcome::Changed | EventOutcome::Unchanged | EventOutcome::FirstSeen => {
                let new = change.new_type.as_deref().map(State::of);
                match new.is_some_and(State::is_strict) {
                    true => "good-text",
                    false => "warn-text",
                }
            }
            EventOutcome::Refused | EventOutcome::Denied | EventOutcome::Stopped => "warn-text",
            EventOutcome::Failed | EventOutcome::TimedOut => "bad-text",
        };
        let by = match (&change.by, change.learned) {
            (Some(by), _) => by.as_str(),
            (None, Learned::Comparison) => "nobody knows whom",
            (None, _) => "not recorded",
        };
        writeln!(
            self.text,
            "<tr><td class=\"nowrap\">{}</td><td><span class=\"{class}\">{}</span></td><td>{}</td><td>{}</td></tr>",
            when(change.time, &self.zone),
            safe(&happened(change)),
            safe(by),
            safe(&details(change))
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_from_the_log_is_markup() {
        assert_eq!(
            safe("<script>\"a'&\u{202e}\n"),
            "&lt;script&gt;&quot;a&#39;&amp;??"
        );
    }
}

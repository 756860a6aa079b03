// SPDX-License-Identifier: GPL-2.0-only
//! A progress bar that appears only if it is needed.

use std::time::{Duration, Instant};

use indicatif::style::TemplateError;
use indicatif::{ProgressBar, ProgressStyle};

use super::locale::is_unicode;

/// The line is as long as the terminal is wide, and the cursor would stand behind its end: there the `^C` of whoever wants to stop
/// begins another line, which is then the one that is cleared. So the cursor goes back, far enough for a few of them.
const BACK: &str = "\x1b[8D";

/// Before this, a person has not begun to wonder.
const SHOW_AFTER: Duration = Duration::from_secs(1);

/// How far it is.
pub struct Progress {
    begin: Instant,
    wanted: bool,
    total: usize,
    what: &'static str,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For so many groups; nothing ever shows unless it is `wanted`.
    pub fn new(wanted: bool, groups: usize) -> Self {
        Self::of(wanted, groups, "groups")
    }

    /// For so many of something else.
    pub fn of(wanted: bool, total: usize, what: &'static str) -> Self {
        Self {
            begin: Instant::now(),
            wanted,
            total,
            what,
            bar: None,
        }
    }

    /// So many are done, and this is being done now.
    pub fn tick(&mut self, done: usize, doing: &str) {
        if !self.wanted || self.begin.elapsed() < SHOW_AFTER {
            return;
        }
        let total = u64::try_from(self.total).unwrap_or(u64::MAX);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            // The template is as good as a constant; a wrong one shows as the default bar.
            if let Ok(style) = style(self.what, is_unicode()) {
                bar.set_style(style);
            }
            bar.with_elapsed(self.begin.elapsed())
        });
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        bar.set_message(doing.to_owned());
        bar.tick();
    }

    /// Takes it off the terminal.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

fn style(what: &str, unicode: bool) -> Result<ProgressStyle, TemplateError> {
    let template =
        format!("{{spinner}} {{pos}} of {{len}} {what} done, {{elapsed}}: {{wide_msg}}{BACK}");
    let style = ProgressStyle::with_template(&template)?;
    Ok(match unicode {
        true => style,
        false => style.tick_chars("|/-\\ "),
    })
}

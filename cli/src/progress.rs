// SPDX-License-Identifier: GPL-2.0-only
//! A progress bar that appears only if it is needed.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Before this, a person has not begun to wonder.
const AFTER: Duration = Duration::from_secs(1);

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
        if !self.wanted || self.begin.elapsed() < AFTER {
            return;
        }
        let total = u64::try_from(self.total).unwrap_or(u64::MAX);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            let what = self.what;
            let template =
                format!("{{spinner}} {{pos}} of {{len}} {what} done, {{elapsed}}: {{wide_msg}}");
            // The template is as good as a constant; a wrong one shows as the default bar.
            if let Ok(style) = ProgressStyle::with_template(&template) {
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

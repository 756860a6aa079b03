// SPDX-License-Identifier: GPL-2.0-only
//! Progress, for a person who waits for the kernel.

use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

/// Before this, a person has not begun to wonder.
const PROGRESS_AFTER: Duration = Duration::from_secs(1);

/// A progress bar that appears only if it is needed.
pub struct Progress {
    begin: Instant,
    wanted: bool,
    groups: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    /// For `groups` groups; nothing is shown unless it is `wanted`.
    pub fn new(wanted: bool, groups: usize) -> Self {
        Self {
            begin: Instant::now(),
            wanted,
            groups,
            bar: None,
        }
    }

    /// So many are done.
    pub fn tick(&mut self, done: usize) {
        if !self.wanted || self.begin.elapsed() < PROGRESS_AFTER {
            return;
        }
        let total = u64::try_from(self.groups).unwrap_or(u64::MAX);
        let bar = self.bar.get_or_insert_with(|| {
            let bar = ProgressBar::new(total);
            let template =
                "{spinner} waiting for the kernel: {pos} of {len} groups done, {elapsed}";
            // The template is a constant; a wrong one shows as the default bar.
            if let Ok(style) = ProgressStyle::with_template(template) {
                bar.set_style(style);
            }
            bar.with_elapsed(self.begin.elapsed())
        });
        bar.set_position(u64::try_from(done).unwrap_or(u64::MAX));
        bar.tick();
    }

    /// It is over, and leaves no trace.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! When each boot in the log began, and when its last event was recorded.
//!
//! The wall clock can be set, and is often wrong early in a boot. The time since boot cannot be set, so events are placed by
//! it, relative to the last record of their boot.

use std::collections::HashMap;

use jiff::Timestamp;
use serde::Deserialize;

use crate::audit::event::Event;
use crate::audit::log::file::{LogError, Places};
use crate::audit::log::read;

/// Below this difference, two clocks agree: then an event has the time that `audit log` shows for it.
const MAX_CLOCK_DIFFERENCE_MS: i64 = 2000;

/// A boot. Times are in milliseconds since 1970.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Boot {
    began: i64,
    last: i64,
}

/// All boots in the log, by id.
#[derive(Debug, Default)]
pub struct Boots(HashMap<String, Boot>);

/// The timestamps of a record.
#[derive(Deserialize)]
struct Stamped {
    event: Option<Stamp>,
}

#[derive(Deserialize)]
struct Stamp {
    boot: String,
    time: Timestamp,
    uptime_ms: u64,
}

fn uptime(ms: u64) -> i64 {
    i64::try_from(ms).unwrap_or(i64::MAX)
}

impl Boots {
    /// Reads the log.
    pub fn read(places: &Places) -> Result<Self, LogError> {
        let mut boots = Self::default();
        read::each(places, &mut read::Position::default(), |line| {
            let stamped = serde_json::from_slice::<Stamped>(line.bytes).ok();
            if let Some(stamp) = stamped.and_then(|s| s.event).filter(|_| line.whole) {
                boots.learn(stamp.boot, stamp.time, stamp.uptime_ms);
            }
        })?;
        Ok(boots)
    }

    /// Takes the timestamps of a record.
    pub(super) fn learn(&mut self, boot: String, time: Timestamp, uptime_ms: u64) {
        let last = time.as_millisecond();
        let began = last.saturating_sub(uptime(uptime_ms));
        let known = self.0.entry(boot).or_insert(Boot { began, last });
        // Prefer the later record: by then the clock was set.
        if uptime(uptime_ms) >= known.last.saturating_sub(known.began) {
            *known = Boot { began, last };
        }
    }

    /// When `event` happened, in milliseconds since 1970.
    #[must_use]
    pub fn at(&self, event: &Event) -> i64 {
        let told = event.time.as_millisecond();
        let counted = self.0.get(&event.boot).map_or(told, |boot| {
            boot.began.saturating_add(uptime(event.uptime_ms))
        });
        match counted.saturating_sub(told).saturating_abs() < MAX_CLOCK_DIFFERENCE_MS {
            true => told,
            false => counted,
        }
    }

    /// When the last event of a boot was recorded.
    #[must_use]
    pub fn last(&self, boot: &str) -> Option<i64> {
        self.0.get(boot).map(|boot| boot.last)
    }
}

#[cfg(test)]
mod tests {
    use iommuctl_policy::GroupId;

    use super::*;
    use crate::audit::event::{Learned, Moment};

    #[test]
    fn a_clock_that_was_set_counts_for_nothing() {
        let mut boots = Boots::default();
        let stamp = |second| Timestamp::from_second(second).unwrap();
        // The initramfs took the local time for UTC; an hour later the clock was right.
        boots.learn("b".to_owned(), stamp(8000), 1000);
        boots.learn("b".to_owned(), stamp(5000), 601_000);
        let moment = Moment {
            time: stamp(8000),
            uptime_ms: 1000,
            boot: "b".to_owned(),
        };
        let event = Event::new("x".to_owned(), moment, Learned::Kernel, GroupId(1));
        assert_eq!(boots.at(&event), 4_400_000);
        assert_eq!(boots.last("b"), Some(5_000_000));
        assert_eq!(boots.last("c"), None);
    }
}

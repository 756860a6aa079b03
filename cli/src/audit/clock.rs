// SPDX-License-Identifier: GPL-2.0-only
//! The wall clock, which can be set, and the time since boot, which cannot.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{clock_gettime, ClockId};

use super::event::Moment;

/// The time of the wall clock.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// The time since boot, including suspend (`CLOCK_BOOTTIME`).
#[must_use]
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The time since boot in milliseconds.
#[must_use]
pub fn uptime_ms() -> u64 {
    u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX)
}

/// The current moment, in the boot with this id.
#[must_use]
pub fn moment(boot: &str) -> Moment {
    Moment {
        time: now(),
        uptime_ms: uptime_ms(),
        boot: boot.to_owned(),
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! What time it is: on the wall, which can be set, and since boot, which cannot.

use std::time::Duration;

use jiff::Timestamp;
use nix::time::{clock_gettime, ClockId};

use super::event::Moment;

/// By the clock on the wall.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// Since boot, with the time the machine was asleep (`CLOCK_BOOTTIME`).
#[must_use]
pub fn uptime() -> Duration {
    clock_gettime(ClockId::CLOCK_BOOTTIME).map_or(Duration::ZERO, Duration::from)
}

/// The same in milliseconds.
#[must_use]
pub fn uptime_ms() -> u64 {
    u64::try_from(uptime().as_millis()).unwrap_or(u64::MAX)
}

/// Now, in the boot with this id.
#[must_use]
pub fn moment(boot: &str) -> Moment {
    Moment {
        time: now(),
        uptime_ms: uptime_ms(),
        boot: boot.to_owned(),
    }
}

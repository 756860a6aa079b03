// SPDX-License-Identifier: GPL-2.0-only
//! What time it is: on the wall, which can be set, and since boot, which cannot.

use jiff::Timestamp;
use nix::time::{clock_gettime, ClockId};

use super::event::Moment;

/// By the clock on the wall.
#[must_use]
pub fn now() -> Timestamp {
    Timestamp::now()
}

/// In milliseconds since boot, with the time the machine was asleep.
#[must_use]
pub fn uptime_ms() -> u64 {
    let time = clock_gettime(ClockId::CLOCK_BOOTTIME);
    let milliseconds = time.map(|t| t.tv_sec() * 1000 + t.tv_nsec() / 1_000_000);
    milliseconds
        .ok()
        .and_then(|ms| u64::try_from(ms).ok())
        .unwrap_or(0)
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

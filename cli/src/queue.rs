// SPDX-License-Identifier: GPL-2.0-only
//! Rebinds, one after the other: what could not be done live, and may interrupt.

use iommuctl_policy::Route;

use crate::interrupt::Tools;
use crate::rebind::fuse::Fuse;
use crate::result::{GroupResult, Outcome};
use crate::signals::Signals;
use crate::switch::Switch;
use crate::turn::Turn;

/// What is being done before the first of them, for people.
pub const LIVE: &str = "waiting for the kernel";

/// Whether a group still waits for its rebind.
fn is_next(result: &GroupResult) -> bool {
    result.outcome == Outcome::Planned && result.route == Some(Route::Rebind)
}

/// Rebinds those of `all` that were planned so, in their order. After the first that does not end whole, or when the user
/// wants to stop, the rest is left as it is. `tick` is called with the number of groups that are done, and with what is
/// being done now.
pub fn run<'a>(
    all: impl Iterator<Item = (&'a Switch<'a>, &'a mut GroupResult)>,
    turn: &Turn,
    fuse: &mut Fuse,
    mut tick: impl FnMut(usize, &str),
) {
    let (waiting, settled): (Vec<_>, Vec<_>) = all.partition(|(_, result)| is_next(result));
    if waiting.is_empty() {
        return;
    }
    let mut done = settled.len();
    let mut signals = match Signals::watch() {
        Ok(signals) => signals,
        Err(errno) => {
            let why = format!("Failed to hold back signals: {}", errno.desc());
            for (_, result) in waiting {
                leave(result, Outcome::Failed, &why);
            }
            return;
        }
    };
    let mut stop: Option<String> = None;
    for (switch, result) in waiting {
        if let Some(signal) = signals.seen() {
            stop.get_or_insert(format!("stopped by {signal}"));
        }
        if let Some(why) = &stop {
            leave(result, Outcome::Stopped, why);
            continue;
        }
        let id = result.group;
        let mut tools = Tools {
            run: &turn.run,
            lock: &turn.lock,
            signals: &mut signals,
            fuse,
        };
        let mut tick = |doing: &str| tick(done, &format!("group {id}: {doing}"));
        let whole = switch.interrupt().run(id, result, &mut tools, &mut tick);
        done += 1;
        if !whole {
            stop = Some(format!("group {id} has not got all its drivers back"));
        }
    }
}

/// The group stays as it is.
fn leave(result: &mut GroupResult, outcome: Outcome, why: &str) {
    result.outcome = outcome;
    result.message = Some(format!("nothing was done: {why}"));
    result.writes.clear();
}

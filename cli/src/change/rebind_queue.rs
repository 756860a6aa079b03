// SPDX-License-Identifier: GPL-2.0-only
//! Makes rebinds, one after the other: the changes that could not be made live, and may interrupt.

use iommuctl_policy::Route;

use super::live::Switch;
use super::outcome::{GroupResult, Outcome};
use super::rebind::group::Tools;
use super::rebind::kill_point::KillPoint;
use super::session::Session;
use crate::kernel::sysfs::Problems;
use crate::sys::signals::Signals;

/// The activity before the first rebind, for people.
pub const LIVE: &str = "waiting for the kernel";

/// Whether a group still waits for its rebind.
fn is_next(result: &GroupResult) -> bool {
    result.outcome == Outcome::Planned && result.route == Some(Route::Rebind)
}

/// Rebinds those of `all` for which a rebind is planned, in their order. After the first that does not end whole, or when the
/// user stops the command, the rest is left alone. `tick` is called with the number of groups that are done, and with the
/// current activity.
pub fn run<'a>(
    all: impl Iterator<Item = (&'a Switch<'a>, &'a mut GroupResult)>,
    session: &Session,
    kill_point: &mut KillPoint,
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
                result.leave(Outcome::Failed, &why);
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
            result.leave(Outcome::Stopped, why);
            session
                .trail
                .note(switch.sysfs, result.group, result.ending(switch.request));
            continue;
        }
        let id = result.group;
        // Read the group again for the record: the rebind repeats all checks, and reports a group that is gone.
        let group = switch.sysfs.group(id, &mut Problems::default());
        let opened = group.map(|group| session.trail.open(&group, switch.request, Route::Rebind));
        let opened = match opened.transpose() {
            Ok(opened) => opened,
            Err(why) => {
                result.leave(Outcome::Failed, &why);
                continue;
            }
        };
        let mut tools = Tools {
            run: &session.run,
            lock: &session.lock,
            signals: &mut signals,
            kill_point,
        };
        let mut tick = |doing: &str| tick(done, &format!("group {id}: {doing}"));
        let whole = switch.interrupt().run(id, result, &mut tools, &mut tick);
        if let Some(opened) = opened {
            session.trail.close(opened, result.ending(switch.request));
        }
        done += 1;
        if !whole {
            stop = Some(format!("group {id} has not got all its drivers back"));
        }
    }
}

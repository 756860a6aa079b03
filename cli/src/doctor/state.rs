// SPDX-License-Identifier: GPL-2.0-only
//! The state in `/run/iommuctl`: journals of rebinds and benches, and the record of a lockdown.

use super::finding::{Finding, Id};
use super::machine::{why, Machine};
use crate::state::lockdown::LockdownError;
use crate::state::unfinished::Unfinished;
use crate::sys::private_dir::PrivateDirError;

/// Whether a rebind or a bench was interrupted.
pub fn recover(machine: &Machine<'_>) -> Finding {
    let left = match Unfinished::look(machine.context.run_root.as_deref()) {
        Ok((left, _)) => left,
        Err(error) => return Finding::unknown(Id::Recover, because(&error)),
    };
    let (what, groups) = match left.rebinds.is_empty() {
        true => ("bench", left.benches),
        false => ("rebind", left.rebinds),
    };
    let names: Vec<String> = groups.iter().map(ToString::to_string).collect();
    let names = names.join(", ");
    match (groups.is_empty(), left.busy) {
        (true, _) => Finding::ok(Id::Recover, "no rebind and no bench was interrupted"),
        (false, true) => Finding::note(
            Id::Recover,
            format!("another iommuctl is at work; not finished yet: a {what} of groups {names}"),
        ),
        (false, false) => {
            let text = format!("a {what} was interrupted, of groups: {names}");
            Finding::bad(Id::Recover, text).fix("iommuctl recover")
        }
    }
}

fn because(error: &PrivateDirError) -> String {
    why(error.errno(), error)
}

/// Whether a lockdown is in force.
pub fn lockdown(machine: &Machine<'_>) -> Finding {
    match &machine.lockdown {
        Ok(None) => Finding::ok(Id::Lockdown, "none is in force"),
        Ok(Some(in_force)) if in_force.standing => {
            let groups = in_force.groups;
            let text = format!("one is in force; groups made strict: {groups}");
            Finding::note(Id::Lockdown, text).fix("iommuctl release")
        }
        Ok(Some(in_force)) => {
            let processes = in_force.processes.join(", ");
            let text = format!("one is in force while a command runs (process {processes})");
            Finding::note(Id::Lockdown, text)
        }
        Err(LockdownError::Run(error)) => Finding::unknown(Id::Lockdown, because(error)),
        Err(error) => Finding::unknown(Id::Lockdown, error),
    }
}

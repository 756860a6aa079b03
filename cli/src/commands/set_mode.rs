// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl set-mode`: changes the type of one or more groups.

use std::collections::BTreeSet;

use anyhow::Context as _;
use iommuctl_policy::{GroupId, Route, TypeRequest};
use serde::Serialize;

use crate::advice;
use crate::args::SetModeArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::interrupt::Tools;
use crate::output::Output;
use crate::progress::Progress;
use crate::rebind::fuse::Fuse;
use crate::rebind::journal;
use crate::render;
use crate::result::{GroupResult, Outcome};
use crate::route::Allowed;
use crate::run_dir::RunDir;
use crate::signals::Signals;
use crate::switch::Switch;
use crate::sysfs::Problems;

/// What `set-mode` did.
#[derive(Debug, Serialize)]
pub struct SetModeReport {
    pub request: TypeRequest,
    pub dry_run: bool,
    pub results: Vec<GroupResult>,
    pub exit_code: u8,
}

/// Runs the command.
pub fn run(args: &SetModeArgs, context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::default();
    let inventory = context.inventory(&mut problems)?;
    // All targets, before anything is changed: a mistyped one must not leave half of the work done.
    let groups = context.resolve(&args.targets, &inventory)?;
    let switch = Switch {
        sysfs: &context.sysfs,
        proc: &context.proc,
        request: args.request,
        allowed: Allowed::new(args.route, args.allow_interrupt),
        overrides: args.overrides.checks(),
        timeout: args.timeout,
        capabilities: context.proc.capabilities(),
    };
    let permitted = switch.capabilities.is_none_or(|c| c.missing().is_empty());
    let results = if args.dry_run {
        switch.survey(&groups)
    } else if permitted {
        change(args, context, &switch, &groups, output)?
    } else {
        not_permitted(&switch, &groups)
    };

    let exit = exit(&results);
    let report = SetModeReport {
        request: args.request,
        dry_run: args.dry_run,
        results,
        exit_code: exit.code(),
    };
    let reported = output.report(&report, |w, r| render::set_mode::write(w, r));
    if report.results.iter().any(|r| r.outcome == Outcome::Changed) {
        reported.context("Some groups were changed, but the report cannot be written")?;
    } else {
        reported?;
    }
    output.problems(&problems);
    for result in &report.results {
        complain(result, output);
    }
    for line in render::set_mode::advice(&report.results) {
        output.hint(line);
    }
    if let Some(hint) = missing_rights(args.dry_run, context) {
        output.hint(&hint);
    }
    Ok(exit)
}

/// Makes the changes. Even what there is nothing to do about is found out under the lock: otherwise it could be true only
/// because somebody else is in the middle of changing it.
fn change(
    args: &SetModeArgs,
    context: &Context,
    switch: &Switch<'_>,
    groups: &BTreeSet<GroupId>,
    output: &mut Output,
) -> anyhow::Result<Vec<GroupResult>> {
    let run = RunDir::make(context.run_root.as_deref())?;
    let lock = context.lock(&run, args.lock_timeout, output)?;
    for group in journal::left_behind(&run)? {
        output.remark(&format!(
            "a rebind of group {group} was interrupted earlier: `iommuctl recover` finishes it"
        ));
    }
    let mut progress = Progress::new(output.wants_progress(), groups.len());
    let mut results = switch.run(groups, |n| progress.tick(n, "waiting for the kernel"));
    if results.iter().any(is_next) {
        let mut signals = Signals::watch().context("Failed to hold back signals")?;
        let mut fuse = Fuse::new(args.die_at);
        let mut tools = Tools {
            run: &run,
            lock: &lock,
            signals: &mut signals,
            fuse: &mut fuse,
        };
        rebind(switch, &mut results, &mut tools, &mut progress);
    }
    progress.finish();
    Ok(results)
}

/// Whether a group still waits for its rebind.
fn is_next(result: &GroupResult) -> bool {
    result.outcome == Outcome::Planned && result.route == Some(Route::Rebind)
}

/// One rebind after the other. After the first that does not end whole, or when the user wants to stop, the rest is left
/// as it is.
fn rebind(
    switch: &Switch<'_>,
    results: &mut [GroupResult],
    tools: &mut Tools<'_>,
    progress: &mut Progress,
) {
    let mut stop: Option<String> = None;
    let mut done = results.iter().filter(|r| !is_next(r)).count();
    for result in results.iter_mut().filter(|r| is_next(r)) {
        if let Some(signal) = tools.signals.seen() {
            stop.get_or_insert(format!("stopped by {signal}"));
        }
        if let Some(why) = &stop {
            result.outcome = Outcome::Stopped;
            result.message = Some(format!("nothing was done: {why}"));
            result.writes.clear();
            continue;
        }
        let id = result.group;
        let mut tick = |doing: &str| progress.tick(done, &format!("group {id}: {doing}"));
        let whole = switch.interrupt().run(id, result, tools, &mut tick);
        done += 1;
        if !whole {
            stop = Some(format!("group {id} has not got all its drivers back"));
        }
    }
}

/// What the kernel would not let happen is not even begun: nothing is made in `/run`, and nobody is waited for.
fn not_permitted(switch: &Switch<'_>, groups: &BTreeSet<GroupId>) -> Vec<GroupResult> {
    let explained = advice::not_permitted(switch.capabilities);
    let mut results = switch.survey(groups);
    for result in results.iter_mut().filter(|r| r.outcome == Outcome::Planned) {
        result.outcome = Outcome::Failed;
        result.message = Some(explained.message.clone());
        result.advice.clone_from(&explained.advice);
        result.writes.clear();
    }
    results
}

/// Says on standard error what became of a group that was not changed.
fn complain(result: &GroupResult, output: &mut Output) {
    let group = result.group;
    if result.is_done() {
        if let (Some(Route::Rebind), Outcome::Changed | Outcome::Unchanged, Some(notes)) =
            (result.route, result.outcome, &result.message)
        {
            output.remark(&format!("group {group}: {notes}"));
        }
        return;
    }
    for finding in &result.findings {
        let (message, flag) = (&finding.message, finding.flag);
        output.complain(&format!("group {group}: {message} ({flag} overrides this)"));
    }
    if result.findings.is_empty() {
        let message = result.message.as_deref().unwrap_or("failed");
        output.complain(&format!("group {group}: {message}"));
    }
}

/// What a dry run cannot see: that the write itself would not be permitted.
fn missing_rights(dry_run: bool, context: &Context) -> Option<String> {
    let missing = context.proc.capabilities()?.missing();
    (dry_run && !missing.is_empty()).then(|| {
        format!(
            "without --dry-run this takes {}, which this process does not have: run it as root",
            missing.join(" and ")
        )
    })
}

/// How the program is to end after `results`.
fn exit(results: &[GroupResult]) -> Exit {
    let mut left = results.iter().filter(|r| !r.is_done()).peekable();
    if left.peek().is_none() {
        return Exit::Done;
    }
    let switched = |r: &GroupResult| matches!(r.outcome, Outcome::Changed | Outcome::Planned);
    if results.iter().any(switched) {
        Exit::Partly
    } else if left.all(|r| r.outcome == Outcome::Refused) {
        Exit::Refused
    } else {
        Exit::Failed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn exit_of(outcomes: &[Outcome]) -> Exit {
        let result = |(id, outcome): (u32, &Outcome)| GroupResult {
            outcome: *outcome,
            ..GroupResult::new(GroupId(id))
        };
        let results: Vec<GroupResult> = (0..).zip(outcomes).map(result).collect();
        exit(&results)
    }

    #[test]
    fn exit_codes() {
        use Outcome::{Changed, Failed, Planned, Refused, Stopped, TimedOut, Unchanged};
        assert_eq!(exit_of(&[Changed, Unchanged, Planned]), Exit::Done);
        assert_eq!(exit_of(&[Refused, Refused]), Exit::Refused);
        assert_eq!(exit_of(&[Refused, Failed]), Exit::Failed);
        assert_eq!(exit_of(&[TimedOut]), Exit::Failed);
        assert_eq!(exit_of(&[Stopped]), Exit::Failed);
        assert_eq!(exit_of(&[Changed, Stopped]), Exit::Partly);
        assert_eq!(exit_of(&[Changed, Refused]), Exit::Partly);
        assert_eq!(exit_of(&[Unchanged, TimedOut]), Exit::Failed);
        assert_eq!(exit_of(&[Unchanged, Refused]), Exit::Refused);
    }
}

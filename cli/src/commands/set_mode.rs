// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl set-mode`: changes the type of one or more groups.

use anyhow::Context as _;
use iommuctl_policy::TypeRequest;
use serde::Serialize;

use crate::args::SetModeArgs;
use crate::context::Context;
use crate::exit::Exit;
use crate::output::Output;
use crate::progress::Progress;
use crate::render;
use crate::switch::{GroupResult, Outcome, Switch};
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
        request: args.request,
        choice: args.route,
        force: false,
        dry_run: args.dry_run,
        timeout: args.timeout,
        capabilities: context.proc.capabilities(),
    };
    let mut progress = Progress::new(output.wants_progress(), groups.len());
    let results = switch.run(&groups, |done| progress.tick(done));
    progress.finish();

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
        if is_done(result.outcome) {
            continue;
        }
        let message = result.message.as_deref().unwrap_or("failed");
        output.complain(&format!("group {}: {message}", result.group));
    }
    for line in render::set_mode::advice(&report.results) {
        output.hint(line);
    }
    if let Some(hint) = missing_rights(args.dry_run, context) {
        output.hint(&hint);
    }
    Ok(exit)
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

/// Whether a group has what was asked for.
pub fn is_done(outcome: Outcome) -> bool {
    match outcome {
        Outcome::Unchanged | Outcome::Changed | Outcome::Planned => true,
        Outcome::Refused | Outcome::Failed | Outcome::TimedOut => false,
    }
}

/// How the program is to end after `results`.
pub fn exit(results: &[GroupResult]) -> Exit {
    let mut left = results.iter().filter(|r| !is_done(r.outcome)).peekable();
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
    use iommuctl_policy::GroupId;

    use super::*;

    fn exit_of(outcomes: &[Outcome]) -> Exit {
        let result = |(id, outcome): (u32, &Outcome)| GroupResult {
            group: GroupId(id),
            devices: Vec::new(),
            old_type: None,
            new_type: None,
            route: None,
            needs: None,
            outcome: *outcome,
            milliseconds: None,
            message: None,
            advice: Vec::new(),
        };
        let results: Vec<GroupResult> = (0..).zip(outcomes).map(result).collect();
        exit(&results)
    }

    #[test]
    fn exit_codes() {
        use Outcome::{Changed, Failed, Planned, Refused, TimedOut, Unchanged};
        assert_eq!(exit_of(&[Changed, Unchanged, Planned]), Exit::Done);
        assert_eq!(exit_of(&[Refused, Refused]), Exit::Refused);
        assert_eq!(exit_of(&[Refused, Failed]), Exit::Failed);
        assert_eq!(exit_of(&[TimedOut]), Exit::Failed);
        assert_eq!(exit_of(&[Changed, Refused]), Exit::Partly);
        assert_eq!(exit_of(&[Unchanged, TimedOut]), Exit::Failed);
        assert_eq!(exit_of(&[Unchanged, Refused]), Exit::Refused);
    }
}

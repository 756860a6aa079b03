// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl set-mode`: changes the type of one or more groups.

pub mod overrides;

use std::collections::BTreeSet;
use std::io::{self, Write};

use anyhow::Context as _;
use clap::ValueEnum;
use iommuctl_policy::{GroupId, Inventory, TypeRequest};
use serde::Serialize;

use self::overrides::Overrides;
use super::common::result_table::{self, interruptions, rows};
use crate::change::live::Switch;
use crate::change::outcome::{exit, GroupResult, Outcome};
use crate::change::rebind::kill_point::KillPoint;
use crate::change::route::Allowed;
use crate::change::{advice, rebind_queue};
use crate::commands::common::args::{Patience, TypeParser, Wait, TARGET_HELP};
use crate::exit::{self, Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::kernel::target::Target;
use crate::recovery::begin;
use crate::state::lockdown::in_force;
use crate::state::lockdown::is_laxer;
use crate::terminal::output::Output;
use crate::terminal::progress::Progress;
use crate::terminal::style;

/// Arguments of `set-mode`.
#[derive(Debug, clap::Args)]
#[command(after_help = format!("{TARGET_HELP}\n\n{}", exit::HELP))]
pub struct SetModeArgs {
    /// The groups to change, or something in them (see below)
    #[arg(required = true, value_name = "TARGET")]
    pub targets: Vec<Target>,
    /// The type they shall have
    #[arg(required = true, value_name = "TYPE", value_parser = TypeParser, ignore_case = true)]
    pub request: TypeRequest,
    /// Which way to go: without interrupting a device, or otherwise
    #[arg(long, value_name = "ROUTE", default_value = "live")]
    pub route: RouteChoice,
    /// Let `--route auto` interrupt devices where no live route works
    #[arg(long)]
    pub allow_interrupt: bool,
    /// Say what would be done, down to each write, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the kernel.
    #[command(flatten)]
    pub kernel: Patience,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
    /// What a rebind may do without.
    #[command(flatten)]
    pub overrides: Overrides,
    /// Kill the process at this point of a rebind (for tests)
    #[arg(long, hide = true, value_name = "POINT")]
    pub die_at: Option<u32>,
}

/// Which routes the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum RouteChoice {
    /// Only routes that do not interrupt a device.
    Live,
    /// Unbind the drivers, change the type, bind them again.
    Rebind,
    /// Live if that works, and if not, with --allow-interrupt, rebind.
    Auto,
}

impl RouteChoice {
    /// What it allows. `auto` alone is no permission to interrupt.
    fn allowed(self, interrupt: bool) -> Allowed {
        match self {
            Self::Live => Allowed::Live,
            Self::Auto if !interrupt => Allowed::Live,
            Self::Auto => Allowed::Any,
            Self::Rebind => Allowed::Rebind,
        }
    }
}

/// What `set-mode` did.
#[derive(Debug, Serialize)]
pub struct SetModeReport {
    pub request: TypeRequest,
    pub dry_run: bool,
    pub results: Vec<GroupResult>,
    pub exit_code: u8,
}

/// Rejects flags that would have no effect.
fn without_effect(args: &SetModeArgs) -> Result<(), Failure> {
    let usage = |message: String| Err(Failure::new(Exit::Usage, message));
    if args.allow_interrupt && args.route != RouteChoice::Auto {
        let message = "--allow-interrupt goes with --route auto, and with no other route";
        return usage(message.to_owned());
    }
    let may_interrupt = args.allow_interrupt || args.route == RouteChoice::Rebind;
    match args.overrides.checks().first() {
        Some(check) if !may_interrupt => usage(format!(
            "{} overrides a check of a rebind: it goes with --route rebind, or with --route auto --allow-interrupt",
            check.flag()
        )),
        _ => Ok(()),
    }
}

/// Runs the command.
pub fn run(args: &SetModeArgs, context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    without_effect(args)?;
    let mut problems = Problems::default();
    let inventory = context.inventory(&mut problems)?;
    // All targets, before anything is changed: a mistyped one must not leave half of the work done.
    let groups = context.resolve(&args.targets, &inventory)?;
    let allowed = args.route.allowed(args.allow_interrupt);
    let switch = Switch {
        overrides: args.overrides.checks(),
        ..Switch::new(context, args.request, allowed, args.kernel.timeout)
    };
    let permitted = switch.capabilities.is_none_or(|c| c.missing().is_empty());
    let results = if args.dry_run {
        switch.survey(&groups, &inventory)
    } else if permitted {
        change(args, context, &switch, &groups, output)?
    } else {
        not_permitted(&switch, &groups, &inventory)
    };

    let exit = exit(&results);
    let report = SetModeReport {
        request: args.request,
        dry_run: args.dry_run,
        results,
        exit_code: exit.code(),
    };
    let reported = output.report(&report, write);
    if report.results.iter().any(|r| r.outcome == Outcome::Changed) {
        reported.context("Some groups were changed, but the report cannot be written")?;
    } else {
        reported?;
    }
    output.warn_all(problems.iter());
    if let Some(remark) = laxer_than_the_lockdown(&report, context) {
        output.remark(&remark);
    }
    for result in &report.results {
        complain(result, output);
    }
    for line in result_table::advice(&report.results) {
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
    let session = begin(context, args.wait.lock_timeout, output)?;
    let mut progress = Progress::new(output.wants_progress(), groups.len());
    let mut results = switch.run(groups, &session.trail, |done| {
        progress.tick(done, rebind_queue::LIVE)
    });
    let pairs = results.iter_mut().map(|result| (switch, result));
    let tick = |done: usize, doing: &str| progress.tick(done, doing);
    rebind_queue::run(pairs, &session, &mut KillPoint::new(args.die_at), tick);
    progress.finish();
    output.warn_all(session.trail.troubles());
    Ok(results)
}

/// What the kernel would not let happen is not even begun: nothing is made in `/run`, and nobody is waited for.
fn not_permitted(
    switch: &Switch<'_>,
    groups: &BTreeSet<GroupId>,
    inventory: &Inventory,
) -> Vec<GroupResult> {
    let explained = advice::not_permitted(switch.capabilities);
    let mut results = switch.survey(groups, inventory);
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
    if let Some(notes) = result_table::notes(result) {
        output.remark(&notes);
    }
    if result.is_done() {
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

/// Warns that a change is laxer than the lockdown in force: a user who names a group may make it, but should know.
fn laxer_than_the_lockdown(report: &SetModeReport, context: &Context) -> Option<String> {
    let changed = |r: &&GroupResult| matches!(r.outcome, Outcome::Changed | Outcome::Planned);
    let laxer = report.results.iter().filter(changed);
    let laxer = laxer.filter(|r| is_laxer(r.old_type.as_ref(), report.request));
    let groups: Vec<String> = laxer.map(|r| r.group.to_string()).collect();
    // Ignore an error: a user who may not read the lockdown may not change a group either.
    in_force(context.run_root.as_deref()).ok().flatten()?;
    (!groups.is_empty()).then(|| {
        format!(
            "a lockdown is in force, and does not hold for what is made laxer here: group {}",
            groups.join(", ")
        )
    })
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

/// Writes the table, and below it what was interrupted, or what would be written.
pub fn write(w: &mut dyn Write, report: &SetModeReport) -> io::Result<()> {
    rows(w, report.results.iter().map(|r| (r, report.request)))?;
    interruptions(w, report.results.iter())?;
    if report.dry_run {
        write_writes(w, report)?;
    }
    Ok(())
}

/// The writes that a dry run leaves out, as they would be typed.
fn write_writes(w: &mut dyn Write, report: &SetModeReport) -> io::Result<()> {
    for result in &report.results {
        if result.writes.is_empty() {
            continue;
        }
        let head = style::HEADING;
        writeln!(
            w,
            "\n{head}group {} would be changed by{head:#}",
            result.group
        )?;
        for write in &result.writes {
            let gap = if write.text.is_empty() { "" } else { " " };
            writeln!(w, "  echo{gap}{} > {}", write.text, write.path)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn auto_alone_is_no_permission() {
        use RouteChoice::{Auto, Live, Rebind};
        assert_eq!(Auto.allowed(false), Allowed::Live);
        assert_eq!(Auto.allowed(true), Allowed::Any);
        assert_eq!(Live.allowed(true), Allowed::Live);
        assert_eq!(Rebind.allowed(false), Allowed::Rebind);
    }
}

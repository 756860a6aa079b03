// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl lockdown`: makes every group strict, in one batch, and remembers what was not.

pub mod release;

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;
use iommuctl_policy::{DomainType, Group, GroupId, TypeRequest};
use nix::sys::signal::{SigSet, Signal};
use serde::Serialize;

use super::common::result_table::{advice, rows};
use crate::audit::trail::Trail;
use crate::change::live::Switch;
use crate::change::outcome::{exit, GroupResult, Outcome};
use crate::change::rebind_queue;
use crate::change::route::Allowed;
use crate::commands::common::args::{seconds, Global, Wait};
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::recovery::begin;
use crate::state::lockdown::{Record, Remembered, Store};
use crate::sys::path_lookup;
use crate::terminal::output::Output;
use crate::terminal::progress::Progress;

/// Arguments of `lockdown`.
#[derive(Debug, clap::Args)]
pub struct LockdownArgs {
    /// Run COMMAND, and go back when it has ended; ends with its exit code
    ///
    /// COMMAND is looked up before anything is switched. Ends with 127 if it is not found and with 126 if it cannot be
    /// run, as env and timeout do. Does not go with --json, since standard output is COMMAND's.
    #[arg(long = "while", value_name = "COMMAND", num_args = 1.., allow_hyphen_values = true)]
    pub command: Vec<OsString>,
    /// Run COMMAND even if not every group could be made strict
    #[arg(long, requires = "command")]
    pub partly: bool,
    /// Say what would be made strict, and what could not be, and do nothing
    #[arg(long, conflicts_with = "command")]
    pub dry_run: bool,
    /// How long to wait for the kernel, for each group; a switch that has begun cannot be cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

/// Why a group is left as it is that user space maps.
const UNMANAGED: &str =
    "it is in the hands of user space (VFIO), which maps its memory itself, and is not changed";

/// What `lockdown` or `release` did.
#[derive(Debug, Serialize)]
pub struct LockdownReport {
    pub dry_run: bool,
    /// How many groups there are.
    pub groups: usize,
    /// Those that were not strict before, or were to be relaxed.
    pub results: Vec<GroupResult>,
    pub exit_code: u8,
}

impl LockdownReport {
    /// Reports `results`, of all the `groups` there are.
    pub fn new(dry_run: bool, groups: usize, results: Vec<GroupResult>) -> Self {
        Self {
            dry_run,
            groups,
            exit_code: exit(&results).code(),
            results,
        }
    }

    /// How the command ends.
    pub fn exit(&self) -> Exit {
        exit(&self.results)
    }
}

/// Runs the command.
pub fn run(args: &LockdownArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    if let Some(program) = args.command.first() {
        check_command(program, global)?;
    }
    let context = Context::open(&global.roots)?;
    if args.dry_run {
        let report = survey(&context, args.timeout)?;
        say(&report, false, output)?;
        return Ok(report.exit());
    }
    let lock_timeout = args.wait.lock_timeout;
    let session = begin(&context, lock_timeout, output)?;
    let store = Store::new(&session.run);
    let trail = &session.trail;
    let holder = match args.command.as_slice() {
        [] => None,
        _ => Some(store.hold()?),
    };
    let report = tighten(
        &context,
        store,
        trail,
        holder.is_none(),
        args.timeout,
        output,
    )?;
    output.warn_all(trail.troubles());
    let exit = report.exit();
    // While a command runs, standard output is the command's.
    if holder.is_none() {
        say(&report, false, output)?;
    } else {
        complain(&report, output);
    }
    let Some(holder) = holder else {
        return Ok(exit);
    };
    // Others may change groups, lock down and release while the command runs.
    drop(session);
    let ran = if exit == Exit::Done || args.partly {
        run_command(&args.command)
    } else {
        output.hint("the command was not run; --partly runs it all the same");
        Ok(exit)
    };
    let session = begin(&context, lock_timeout, output).inspect_err(|_| {
        output.complain("the lockdown goes on: `iommuctl release` ends it");
    })?;
    let store = Store::new(&session.run);
    store.let_go(holder)?;
    let released = release::finish(&context, store, &session.trail, args.timeout, output)?;
    output.warn_all(session.trail.troubles());
    if let Some(report) = released {
        complain(&report, output);
    }
    ran
}

/// What can be known to be wrong before anything is switched.
fn check_command(program: &OsStr, global: &Global) -> Result<(), Failure> {
    if global.json {
        let message = "--json does not go with --while: standard output is the command's";
        return Err(Failure::new(Exit::Usage, message));
    }
    path_lookup::check(program)
}

/// What would be done about every group that is not strict. Nothing is.
fn survey(context: &Context, timeout: Duration) -> anyhow::Result<LockdownReport> {
    let inventory = context.inventory(&mut Problems::default())?;
    let todo = inventory.groups().iter().filter(|g| !is_strict(g));
    let ids: BTreeSet<GroupId> = todo.map(|g| g.id).collect();
    let switch = Switch::new(context, TypeRequest::Dma, Allowed::Live, timeout);
    let mut results = switch.survey(&ids, &inventory);
    results.iter_mut().for_each(explain_unmanaged);
    Ok(LockdownReport::new(true, inventory.groups().len(), results))
}

/// Makes every group strict that is not.
fn tighten(
    context: &Context,
    store: Store<'_>,
    trail: &Trail,
    standing: bool,
    timeout: Duration,
    output: &Output,
) -> anyhow::Result<LockdownReport> {
    let mut problems = Problems::default();
    let inventory = context.inventory(&mut problems)?;
    let groups = inventory.groups().iter();
    let todo: Vec<_> = groups.filter(|g| !is_strict(g)).collect();

    let before = store.read()?;
    let mut record = before.clone();
    record.standing |= standing;
    record.remember(todo.iter().filter_map(|g| Remembered::of(g)));
    store.write(&record)?;

    let ids: BTreeSet<GroupId> = todo.iter().map(|g| g.id).collect();
    let mut results = switch(context, TypeRequest::Dma, &ids, trail, timeout, output);
    results.iter_mut().for_each(explain_unmanaged);
    forget_unchanged(&mut record, &before, &results);
    store.write(&record)?;
    Ok(LockdownReport::new(
        false,
        inventory.groups().len(),
        results,
    ))
}

/// Whether `group` is known to be strict. One whose type the kernel does not show may be anything.
fn is_strict(group: &Group) -> bool {
    matches!(
        group.domain_type,
        Some(DomainType::Dma | DomainType::Blocked)
    )
}

/// That another route would make it strict is no help for a group that is not the kernel's to map.
fn explain_unmanaged(result: &mut GroupResult) {
    if result.old_type == Some(DomainType::Unmanaged) && !result.is_done() {
        result.message = Some(UNMANAGED.to_owned());
        result.needs = None;
        result.advice.clear();
    }
}

/// Takes out of `record` what was put in for this lockdown, and not changed by it. What took too long may still change.
fn forget_unchanged(record: &mut Record, before: &Record, results: &[GroupResult]) {
    let stays = |r: &&GroupResult| matches!(r.outcome, Outcome::Changed | Outcome::TimedOut);
    let mut unchanged: BTreeSet<u32> = results.iter().map(|r| r.group.0).collect();
    results.iter().filter(stays).for_each(|r| {
        unchanged.remove(&r.group.0);
    });
    let known: BTreeSet<u32> = before.groups.iter().map(|g| g.group).collect();
    record
        .groups
        .retain(|g| known.contains(&g.group) || !unchanged.contains(&g.group));
}

/// Switches `groups` to `request`, all at the same time and without interrupting a device.
pub fn switch(
    context: &Context,
    request: TypeRequest,
    groups: &BTreeSet<GroupId>,
    trail: &Trail,
    timeout: Duration,
    output: &Output,
) -> Vec<GroupResult> {
    let switch = Switch::new(context, request, Allowed::Live, timeout);
    let mut progress = Progress::new(output.wants_progress(), groups.len());
    let results = switch.run(groups, trail, |done| {
        progress.tick(done, rebind_queue::LIVE)
    });
    progress.finish();
    results
}

/// Reports what was done.
pub fn say(report: &LockdownReport, released: bool, output: &mut Output) -> anyhow::Result<()> {
    output.report(report, |w, r| write(w, r, released))?;
    complain(report, output);
    Ok(())
}

fn complain(report: &LockdownReport, output: &mut Output) {
    for result in &report.results {
        if !result.is_done() {
            let message = result.message.as_deref().unwrap_or("failed");
            output.complain(&format!("group {}: {message}", result.group));
        }
    }
    for line in advice(&report.results) {
        output.hint(line);
    }
}

/// Runs `command`, and ends as it did.
///
/// A Ctrl-C goes to both processes, and a stop of the service to all; it is the command's to heed, and this one must
/// live to undo the lockdown. The command itself starts with no signal blocked: the standard library sees to that.
fn run_command(command: &[OsString]) -> anyhow::Result<Exit> {
    let mut signals = SigSet::empty();
    for signal in [
        Signal::SIGINT,
        Signal::SIGQUIT,
        Signal::SIGTERM,
        Signal::SIGHUP,
    ] {
        signals.add(signal);
    }
    signals.thread_block().context("Failed to block signals")?;
    let Some((program, arguments)) = command.split_first() else {
        return Err(Failure::new(Exit::Usage, "there is no command to run").into());
    };
    let status = Command::new(program)
        .args(arguments)
        .status()
        .map_err(|error| path_lookup::failure(program, &error))?;
    // As shells do: 128 and the signal.
    let code = status.code().or_else(|| status.signal().map(|s| 128 + s));
    let code = code.and_then(|c| u8::try_from(c).ok());
    Ok(code.map_or(Exit::Failed, Exit::Command))
}

/// Writes it.
pub fn write(w: &mut dyn Write, report: &LockdownReport, released: bool) -> io::Result<()> {
    if !report.results.is_empty() {
        rows(w, report.results.iter().map(|r| (r, wanted(r))))?;
    }
    let rest = report.groups.saturating_sub(report.results.len());
    let text = match (released, report.results.is_empty()) {
        (false, true) => "Every group is strict already.".to_owned(),
        (false, false) if rest == 0 => return Ok(()),
        (false, false) => format!("The other {rest} groups were strict already."),
        (true, true) => {
            "There is nothing to release: no group is strict because of a lockdown.".to_owned()
        }
        (true, false) => return Ok(()),
    };
    writeln!(w, "{text}")
}

/// The type asked for, which a dry run shows: what would be written says it.
fn wanted(result: &GroupResult) -> TypeRequest {
    let write = result.writes.first();
    let request = write.and_then(|w| w.text.parse().ok());
    request.unwrap_or(TypeRequest::Dma)
}

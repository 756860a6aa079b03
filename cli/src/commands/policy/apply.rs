// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy apply`: makes the machine as the policy wants it.

use std::io::{self, Write};
use std::path::Path;

use anyhow::Context as _;
use iommuctl_policy::{OnFailure, Route};
use serde::Serialize;

use super::source::{no_policy, rules, Source};
use crate::change::outcome::Outcome;
use crate::change::policy::{exit, Application, PolicyResult};
use crate::commands::common::args::{Global, Patience, Wait};
use crate::commands::common::result_table::{self, devices, interruptions, notes, outcome};
use crate::config::policy_files::{self, wrong, FileReport, Loaded};
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::procfs::PolicyWord;
use crate::kernel::sysfs::Problems;
use crate::kernel::target::Target;
use crate::recovery::begin;
use crate::state::lockdown::in_force;
use crate::sys::trusted::Root;
use crate::terminal::output::Output;
use crate::terminal::progress::Progress;
use crate::terminal::style;
use crate::terminal::table::Table;

/// Arguments of `policy apply`.
#[derive(Debug, clap::Args)]
pub struct ApplyArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
    /// Change nothing, and end with 4 if something would be changed
    #[arg(long)]
    pub check: bool,
    /// Only the group of this device (everything set-mode takes for a target); for hotplug
    #[arg(long, value_name = "DEVICE")]
    pub device: Vec<Target>,
    /// Heed iommuctl.policy= on the kernel command line: off does nothing, a path replaces the system's policy
    #[arg(long, conflicts_with = "path")]
    pub boot: bool,
    /// How long to wait for the kernel.
    #[command(flatten)]
    pub kernel: Patience,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

/// What `policy apply` did, or `policy plan` would do.
#[derive(Debug, Serialize)]
pub struct ApplyReport {
    pub dry_run: bool,
    /// Whether the kernel command line switched the policy off.
    pub switched_off: bool,
    pub files: Vec<FileReport>,
    pub results: Vec<PolicyResult>,
    pub exit_code: u8,
}

impl ApplyReport {
    /// Reports `results`.
    pub fn new(
        dry_run: bool,
        files: Vec<FileReport>,
        results: Vec<PolicyResult>,
        exit: Exit,
    ) -> Self {
        Self {
            dry_run,
            switched_off: false,
            files,
            results,
            exit_code: exit.code(),
        }
    }
}

/// Runs the command.
pub fn run(
    args: &ApplyArgs,
    global: &Global,
    context: &Context,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let Some(loaded) = load(args, global, context)? else {
        let report = ApplyReport {
            switched_off: true,
            ..ApplyReport::new(args.check, Vec::new(), Vec::new(), Exit::Done)
        };
        say(&report, false, &Problems::default(), output)?;
        return Ok(Exit::Done);
    };
    let session = match args.check {
        true => None,
        false => Some(begin(context, args.wait.lock_timeout, output)?),
    };
    if let (Some(_), Err(error)) = (&session, in_force(context.run_root.as_deref())) {
        output.complain(&format!("nothing is made laxer: {error}"));
    }
    let mut problems = Problems::default();
    let inventory = context.inventory_for_policy(&mut problems)?;
    let only = match args.device.as_slice() {
        [] => None,
        devices => Some(context.resolve(devices, &inventory)?),
    };
    let application = Application {
        context,
        policy: &loaded.policy,
        inventory: &inventory,
        only: only.as_ref(),
        session: session.as_ref(),
        timeout: args.kernel.timeout,
    };
    let wanted = output.wants_progress();
    let mut progress = None;
    let results = application.run(|done, total, doing| {
        let progress = progress.get_or_insert_with(|| Progress::new(wanted, total));
        progress.tick(done, doing);
    });
    if let Some(progress) = progress {
        progress.finish();
    }
    if let Some(session) = &session {
        output.warn_all(session.trail.troubles());
    }

    let changes = results.iter().any(|r| r.result.outcome == Outcome::Planned);
    let exit = if args.check && changes {
        Exit::Partly
    } else {
        exit(&results)
    };
    let report = ApplyReport::new(args.check, loaded.files, results, exit);
    let said = say(&report, false, &problems, output);
    let changed = |r: &PolicyResult| r.result.outcome == Outcome::Changed;
    if report.results.iter().any(changed) {
        said.context("Some groups were changed, but the report cannot be written")?;
    } else {
        said?;
    }
    Ok(exit)
}

/// The policy that is to be applied, which nobody but root may be able to write; `None` if it is switched off.
fn load(args: &ApplyArgs, global: &Global, context: &Context) -> anyhow::Result<Option<Loaded>> {
    let root = global.roots.open_root()?;
    let from = |root: &Root, path: &Path| {
        policy_files::load_from(root, path).map_err(|errors| wrong(&errors))
    };
    if let Some(path) = &args.source.path {
        // What a person types is not below the root of the tests.
        let path = std::path::absolute(path)
            .with_context(|| format!("Failed to find {}", path.display()))?;
        return from(&Root::open(None)?, &path).map(Some);
    }
    let word = if args.boot {
        context.proc.policy_word()?
    } else {
        PolicyWord::Absent
    };
    match word {
        PolicyWord::Absent => {
            let loaded = policy_files::load(&root).map_err(|errors| wrong(&errors))?;
            Ok(Some(loaded))
        }
        PolicyWord::Off => Ok(None),
        PolicyWord::Path(path) => from(&root, &path).map(Some),
        PolicyWord::Unknown(text) => Err(Failure::new(
            Exit::Failed,
            format!("iommuctl.policy={text} on the kernel command line is neither off nor a path"),
        )
        .into()),
    }
}

/// Says what was done or would be: the table, and below it what could not be had, and why.
pub fn say(
    report: &ApplyReport,
    all: bool,
    problems: &Problems,
    output: &mut Output,
) -> anyhow::Result<()> {
    output.report(report, |w, r| write(w, r, all))?;
    output.warn_all(problems.iter());
    for result in &report.results {
        if let Some(notes) = notes(&result.result) {
            output.remark(&notes);
        }
    }
    let unmet = || report.results.iter().filter(|r| r.is_unmet());
    for result in unmet() {
        output.complain(&complaint(result));
    }
    for line in advice(unmet()) {
        output.hint(line);
    }
    Ok(())
}

/// Writes it; with `all`, the groups that are as they should be, too.
pub fn write(w: &mut dyn Write, report: &ApplyReport, all: bool) -> io::Result<()> {
    if report.switched_off {
        return writeln!(
            w,
            "iommuctl.policy=off is on the kernel command line: nothing is applied."
        );
    }
    if report.files.is_empty() {
        return no_policy(w);
    }
    let same = |r: &&PolicyResult| r.result.outcome == Outcome::Unchanged;
    let shown: Vec<_> = report.results.iter().filter(|r| all || !same(r)).collect();
    if !shown.is_empty() {
        table(w, &shown)?;
        interruptions(w, shown.iter().map(|r| &r.result))?;
    }
    let same = report.results.iter().filter(same).count();
    match (same, shown.is_empty()) {
        (0, true) => writeln!(w, "The policy wants nothing of any group here."),
        (same, true) => writeln!(w, "Nothing to do: {} as the policy wants.", groups(same)),
        (0, false) => Ok(()),
        (_, false) if all => Ok(()),
        (same, false) => writeln!(w, "{} as the policy wants.", groups(same)),
    }
}

fn groups(count: usize) -> String {
    match count {
        1 => "1 group is".to_owned(),
        count => format!("{count} groups are"),
    }
}

fn table(w: &mut dyn Write, results: &[&PolicyResult]) -> io::Result<()> {
    let mut table = Table::new(["GROUP", "WAS", "IS", "ROUTE", "RESULT", "RULE", "DEVICES"]);
    for policy in results {
        let result = &policy.result;
        let (was, is) = (result.old_type.as_ref(), result.new_type.as_ref());
        table.row([
            (result.group.to_string(), style::PLAIN),
            (style::type_text(was).to_owned(), style::of_type(was)),
            (style::type_text(is).to_owned(), style::of_type(is)),
            route(policy),
            outcome(result, policy.wanted),
            (rules(&policy.rules), style::PLAIN),
            (devices(result), style::PLAIN),
        ]);
    }
    table.write(w)
}

/// The route, and whether it interrupts the devices.
fn route(policy: &PolicyResult) -> (String, anstyle::Style) {
    match policy.result.route {
        None => ("-".to_owned(), style::PLAIN),
        Some(Route::Rebind) => ("rebind (interrupts)".to_owned(), style::WARN),
        Some(route) => (route.to_string(), style::PLAIN),
    }
}

/// What a group could not be, and why, in one line.
pub fn complaint(policy: &PolicyResult) -> String {
    let because = match policy.rules.as_slice() {
        [] => "the defaults".to_owned(),
        rules => {
            let names: Vec<String> = rules.iter().map(|r| format!("`{}`", r.name)).collect();
            names.join(" and ")
        }
    };
    let kind = match policy.on_failure {
        OnFailure::Warn => " (a warning only, as the rule says)",
        OnFailure::Fail => "",
    };
    let message = policy.result.message.as_deref().unwrap_or("failed");
    format!(
        "group {}: {because} asked for {}: {message}{kind}",
        policy.result.group, policy.wanted
    )
}

/// The advice for all of `results`, each line once.
pub fn advice<'a>(results: impl Iterator<Item = &'a PolicyResult>) -> Vec<&'a str> {
    result_table::advice(results.map(|r| &r.result))
}

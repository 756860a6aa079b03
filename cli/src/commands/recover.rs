// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl recover`: brings back what an interrupted rebind or bench left.
//!
//! Works without an inventory: a group whose devices are gone, or an IOMMU that is, must not keep the rest from coming
//! back.

use std::io::{self, Write};
use std::time::Duration;

use anyhow::Context as _;
use iommuctl_policy::{DomainType, GroupId, Route};
use serde::Serialize;

use crate::audit::trail::Trail;
use crate::bench;
use crate::bench::guard::restore::{restore, Restored};
use crate::change::outcome::{GroupResult, Outcome};
use crate::change::rebind::account::Account;
use crate::change::rebind::engine;
use crate::change::rebind::group::way_back;
use crate::change::rebind::journal::{self, Found, Journal};
use crate::change::rebind::kill_point::Fuse;
use crate::change::rebind::machine::Bound;
use crate::change::rebind::plan::{Plan, Subject};
use crate::change::rebind::real_machine::Kernel;
use crate::commands::common::args::{Global, Patience, Wait};
use crate::exit::{self, Exit};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Sysfs;
use crate::state::change_lock::Lock;
use crate::sys::private_dir::OwnDir;
use crate::terminal::output::Output;
use crate::terminal::progress::Progress;
use crate::terminal::style;
use crate::terminal::table::Table;

/// Arguments of `recover`.
#[derive(Debug, clap::Args)]
#[command(after_help = exit::HELP)]
pub struct RecoverArgs {
    /// Say what was left, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the kernel.
    #[command(flatten)]
    pub kernel: Patience,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
    /// Kill the process at this point (for tests)
    #[arg(long, hide = true, value_name = "POINT")]
    pub die_at: Option<u32>,
}

/// What `recover` did.
#[derive(Debug, Serialize)]
pub struct RecoverReport {
    pub dry_run: bool,
    /// One for each group whose change was interrupted.
    pub groups: Vec<Recovered>,
    pub exit_code: u8,
}

/// What was interrupted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Interrupted {
    /// Its devices were without their drivers for a change of the type.
    Rebind,
    /// Its type was changed to be measured.
    Bench,
}

/// What was done about one group.
#[derive(Debug, Serialize)]
pub struct Recovered {
    pub group: GroupId,
    pub interrupted: Interrupted,
    /// The type it had before the change.
    pub old_type: Option<String>,
    /// The type that was asked for.
    pub request: Option<String>,
    /// The type it has now; `None` if that is not known.
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    pub devices: Vec<RecoveredDevice>,
    /// Whether there is nothing left to do.
    pub done: bool,
    pub message: Option<String>,
    pub advice: Vec<String>,
}

/// A device that lost its driver, or was about to.
#[derive(Debug, Serialize)]
pub struct RecoveredDevice {
    pub name: String,
    /// The driver it had before the change.
    pub driver: String,
    /// The driver that it was found with.
    pub driver_before: Option<String>,
    /// The driver it has now.
    pub driver_now: Option<String>,
    /// Whether it is not there any more.
    pub gone: bool,
}

/// Runs the command.
pub fn run(args: &RecoverArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(&global.roots)?;
    // Journals are for root alone, so even to look at them takes it.
    context.may_change()?;
    let root = context.run_root.as_deref();
    let mut groups = Vec::new();
    if let Some(run) = OwnDir::find(root)? {
        // Whoever is at work has a journal, too: it is no work for us before the lock is free.
        let means = match args.dry_run {
            true => None,
            false => {
                let lock = context.lock(&run, args.wait.lock_timeout, output)?;
                Some((lock, Trail::begin(context.root.as_deref(), &context.proc)?))
            }
        };
        let left = journal::left_behind(&run)?;
        let benches = bench::guard::journal::left_behind(&run)?;
        let mut fuse = Fuse::new(args.die_at);
        let mut progress = Progress::new(output.wants_progress(), left.len());
        for (done, group) in left.into_iter().enumerate() {
            let mut tick = |doing: &str| progress.tick(done, &format!("group {group}: {doing}"));
            let work = Work {
                context: &context,
                run: &run,
                timeout: args.kernel.timeout,
            };
            groups.push(work.one(group, means.as_ref(), &mut fuse, &mut tick));
        }
        progress.finish();
        let work = Benches {
            context: &context,
            run: &run,
            timeout: args.kernel.timeout,
        };
        groups.extend(benches.into_iter().map(|g| work.one(g, means.as_ref())));
        if let Some((_, trail)) = &means {
            output.warn_all(trail.troubles());
        }
    }
    let left = groups.iter().filter(|g| !g.done).count();
    let exit = match (left, groups.len()) {
        _ if args.dry_run => Exit::Done,
        (0, _) => Exit::Done,
        (left, all) if left < all => Exit::Partly,
        _ => Exit::Failed,
    };
    let report = RecoverReport {
        dry_run: args.dry_run,
        groups,
        exit_code: exit.code(),
    };
    let reported = output.report(&report, write);
    reported.context("What there is to report cannot be written")?;
    let unfinished = report.groups.iter().filter(|g| !g.done && !args.dry_run);
    for group in unfinished {
        let message = group
            .message
            .as_deref()
            .unwrap_or("not every device has its driver");
        output.complain(&format!("group {}: {message}", group.group));
        for line in &group.advice {
            output.hint(line);
        }
    }
    Ok(exit)
}

impl Recovered {
    /// Nothing known yet.
    fn new(group: GroupId, interrupted: Interrupted) -> Self {
        Self {
            group,
            interrupted,
            old_type: None,
            request: None,
            domain_type: None,
            devices: Vec::new(),
            done: false,
            message: None,
            advice: Vec::new(),
        }
    }
}

/// What it takes to do anything.
type Means = (Lock, Trail);

struct Work<'a> {
    context: &'a Context,
    run: &'a OwnDir,
    timeout: Duration,
}

impl Work<'_> {
    /// Without the means to do anything, only looks.
    fn one(
        &self,
        group: GroupId,
        means: Option<&Means>,
        fuse: &mut Fuse,
        tick: &mut dyn FnMut(&str),
    ) -> Recovered {
        let mut report = Recovered::new(group, Interrupted::Rebind);
        match journal::read(self.run, group) {
            Ok(Some(found)) => self.found(&found, means, fuse, tick, &mut report),
            // Whoever had it has ended meanwhile.
            Ok(None) => report.done = true,
            Err(error) => {
                report.message = Some(error.to_string());
                report.advice = vec![
                    "bind what is missing by hand, as `iommuctl list` shows it, and remove the file".to_owned(),
                ];
            }
        }
        report
    }

    fn found(
        &self,
        found: &Found,
        means: Option<&Means>,
        fuse: &mut Fuse,
        tick: &mut dyn FnMut(&str),
        report: &mut Recovered,
    ) {
        let removed =
            |report: &mut Recovered, result: Result<(), crate::sys::private_dir::OwnDirError>| {
                report.done = result.is_ok();
                if let Err(error) = result {
                    report.message = Some(error.to_string());
                }
            };
        let Some(plan) = &found.plan else {
            report.message = Some("nothing had been done yet".to_owned());
            if means.is_some() {
                removed(report, found.remove(self.run));
            }
            return;
        };
        report.old_type = Some(plan.old_type.clone());
        report.request = Some(plan.request.clone());
        report.devices = plan.subjects.iter().map(|s| self.device(s)).collect();
        let Some((lock, trail)) = means else {
            return;
        };
        let journal = match Journal::resume(self.run, found, fuse) {
            Ok(journal) => journal,
            Err(error) => {
                report.message = Some(error.to_string());
                return;
            }
        };
        let sysfs = &self.context.sysfs;
        let mut kernel = Kernel::new(sysfs, lock, journal, None, plan, self.timeout, tick);
        let account = engine::recover(&mut kernel, plan, self.timeout);
        let whole = account.whole;
        record(trail, sysfs, plan, &account);
        tell(plan, account, report);
        if whole {
            removed(report, kernel.into_journal().end());
        }
    }

    /// A device as it is now.
    fn device(&self, subject: &Subject) -> RecoveredDevice {
        let sysfs = &self.context.sysfs;
        let path = sysfs.device_path(&subject.bus, &subject.name);
        let driver = sysfs.driver(&subject.path).ok().flatten();
        RecoveredDevice {
            name: subject.name.clone(),
            driver: subject.driver.clone(),
            driver_before: driver.clone(),
            driver_now: driver,
            gone: matches!(path, Ok(None)),
        }
    }
}

/// Groups whose type was changed to be measured.
struct Benches<'a> {
    context: &'a Context,
    run: &'a OwnDir,
    timeout: Duration,
}

impl Benches<'_> {
    /// Without the means to do anything, only looks.
    fn one(&self, group: GroupId, means: Option<&Means>) -> Recovered {
        let mut report = Recovered::new(group, Interrupted::Bench);
        let journal = match bench::guard::journal::read(self.run, group) {
            Ok(Some(journal)) => journal,
            // Whoever had it has ended meanwhile.
            Ok(None) => {
                report.done = true;
                return report;
            }
            Err(error) => {
                report.message = Some(error.to_string());
                report.advice = vec![format!(
                    "see what `iommuctl show {group}` says, make it as it should be with `set-mode`, and remove the file"
                )];
                return report;
            }
        };
        report.old_type = Some(journal.original.to_string());
        report.request = journal
            .switched
            .then(|| journal.original.other().to_string());
        if let Some((lock, trail)) = means {
            let restored = restore(self.context, self.run, trail, lock, &journal, self.timeout);
            report.done = restored.is_whole();
            report.message = Some(restored.words(journal.original));
            report.advice = match restored {
                Restored::Later(_) => vec!["`iommuctl release`, and then this again".to_owned()],
                Restored::Failed(_) => {
                    vec![
                        "`modprobe iommu_live`, if it is not loaded, and then this again"
                            .to_owned(),
                    ]
                }
                Restored::Nothing(_) | Restored::Done | Restored::NotOurs(_) => Vec::new(),
            };
        }
        report.domain_type = self.context.sysfs.domain_type(group).ok().flatten();
        report
    }
}

/// The change was announced by the process that was killed; this says how it ended after all. Nothing is written to the
/// type here, so a trail that does not work keeps no device from coming back.
fn record(trail: &Trail, sysfs: &Sysfs, plan: &Plan, account: &Account) {
    let Ok(request) = plan.request.parse() else {
        return;
    };
    let old_type = DomainType::from_kernel(&plan.old_type);
    let outcome = match &account.domain_type {
        _ if !account.whole => Outcome::Failed,
        Some(now) if *now != old_type => Outcome::Changed,
        _ => Outcome::Unchanged,
    };
    let result = GroupResult {
        old_type: Some(old_type),
        new_type: account.domain_type.clone(),
        route: Some(Route::Rebind),
        outcome,
        message: Some("an interrupted rebind was finished".to_owned()),
        ..GroupResult::new(GroupId(plan.group))
    };
    trail.note(sysfs, &result, request);
}

fn tell(plan: &Plan, account: Account, report: &mut Recovered) {
    report.domain_type = account.domain_type;
    for (device, after) in report.devices.iter_mut().zip(account.devices) {
        device.gone = after.now == Bound::Gone;
        device.driver_now = match after.now {
            Bound::To(driver) => Some(driver),
            Bound::Nothing | Bound::Gone => None,
        };
    }
    let mut words: Vec<String> = account.trouble.into_iter().map(|t| t.message).collect();
    words.extend(account.notes);
    report.message = (!words.is_empty()).then(|| words.join("; "));
    if !account.whole {
        report.advice = way_back(plan);
    }
}

/// Writes the table.
pub fn write(w: &mut dyn Write, report: &RecoverReport) -> io::Result<()> {
    if report.groups.is_empty() {
        return writeln!(w, "Nothing was left behind.");
    }
    let mut table = Table::new(["GROUP", "TYPE", "DEVICE", "DRIVER", "RESULT"]);
    let plain = |text: &str| (text.to_owned(), style::PLAIN);
    for group in &report.groups {
        let kind = group.domain_type.as_ref();
        let mut id = plain(&group.group.to_string());
        let mut kind = (style::type_text(kind).to_owned(), style::of_type(kind));
        if group.devices.is_empty() {
            table.row([
                id,
                kind,
                plain("-"),
                plain("-"),
                whole(group, report.dry_run),
            ]);
            continue;
        }
        for device in &group.devices {
            table.row([
                std::mem::replace(&mut id, plain("")),
                std::mem::replace(&mut kind, plain("")),
                plain(&device.name),
                plain(&device.driver),
                result(device, report.dry_run),
            ]);
        }
    }
    table.write(w)
}

fn whole(group: &Recovered, dry_run: bool) -> (String, anstyle::Style) {
    let message = group.message.as_deref();
    if let (Interrupted::Bench, true, Some(words)) = (group.interrupted, group.done, message) {
        return (words.to_owned(), style::GOOD);
    }
    if let (Interrupted::Bench, true, Some(old)) = (group.interrupted, dry_run, &group.old_type) {
        return match group.request {
            Some(_) => (format!("would become {old} again"), style::PLAIN),
            None => ("nothing had been done".to_owned(), style::GOOD),
        };
    }
    if group.done {
        ("nothing had been done".to_owned(), style::GOOD)
    } else {
        ("left alone".to_owned(), style::WARN)
    }
}

fn result(device: &RecoveredDevice, dry_run: bool) -> (String, anstyle::Style) {
    let is_bound = |driver: &Option<String>| driver.as_ref() == Some(&device.driver);
    let (text, style) = match &device.driver_now {
        _ if device.gone => ("is gone", style::WARN),
        now if is_bound(now) && is_bound(&device.driver_before) => ("is bound", style::GOOD),
        now if is_bound(now) => ("bound again", style::GOOD),
        Some(other) => return (format!("is bound to {other}"), style::WARN),
        None if dry_run => ("would be bound", style::PLAIN),
        None => ("not bound", style::BAD),
    };
    (text.to_owned(), style)
}

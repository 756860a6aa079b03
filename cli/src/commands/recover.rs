// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl recover`: brings back what an interrupted rebind or bench left.
//!
//! Works without an inventory: a group whose devices are gone, or an IOMMU that is, must not keep the rest from coming
//! back.

use std::io::{self, Write};

use anyhow::Context as _;
use serde::Serialize;

use crate::audit::trail::Trail;
use crate::change::rebind::kill_point::KillPoint;
use crate::change::session::{lock, may_change, Session};
use crate::commands::common::args::{Global, Patience, Wait};
use crate::exit::{self, Exit};
use crate::kernel::machine::Context;
use crate::recovery::bench::Benches;
use crate::recovery::rebind::Work;
use crate::recovery::{Interrupted, Recovered, RecoveredDevice};
use crate::state::unfinished;
use crate::sys::private_dir::PrivateDir;
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

/// Runs the command.
pub fn run(args: &RecoverArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(&global.roots)?;
    // Journals are for root alone, so even to look at them takes it.
    may_change(&context)?;
    let root = context.run_root.as_deref();
    let mut groups = Vec::new();
    if let Some(run) = PrivateDir::find(root)? {
        // Take the lock first: a running command has a journal, too, which is not an interrupted change.
        let session = match args.dry_run {
            true => None,
            false => {
                let run = PrivateDir::make(root)?;
                let lock = lock(&run, args.wait.lock_timeout, output)?;
                let trail = Trail::begin(context.root.as_deref(), &context.proc)?;
                Some(Session { run, lock, trail })
            }
        };
        let left = unfinished::rebinds(&run)?;
        let benches = unfinished::benches(&run)?;
        let mut kill_point = KillPoint::new(args.die_at);
        let mut progress = Progress::new(output.wants_progress(), left.len());
        for (done, group) in left.into_iter().enumerate() {
            let mut tick = |doing: &str| progress.tick(done, &format!("group {group}: {doing}"));
            let work = Work {
                context: &context,
                run: &run,
                timeout: args.kernel.timeout,
            };
            groups.push(work.one(group, session.as_ref(), &mut kill_point, &mut tick));
        }
        progress.finish();
        let work = Benches {
            context: &context,
            run: &run,
            timeout: args.kernel.timeout,
        };
        groups.extend(benches.into_iter().map(|g| work.one(g, session.as_ref())));
        if let Some(session) = &session {
            output.warn_all(session.trail.troubles());
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

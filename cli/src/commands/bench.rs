// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl bench`: measures what lazy is worth, for one disk.

use std::path::Path;

use anyhow::Context as _;
use iommuctl_policy::{evaluate_group, DomainType, Group, GroupId, RuleName, TypeRequest};
use nix::errno::Errno;
use serde::Serialize;

use crate::advice::VANISHED;
use crate::args::{BenchArgs, Global};
use crate::bench::advice::{recommend, About, Recommendation};
use crate::bench::figures::{comparisons, measurements, Comparison, Measurement, Slot};
use crate::bench::journal;
use crate::bench::keeper::{Keeper, KeeperError};
use crate::bench::load::{Disk, LoadError};
use crate::bench::measure::{Ended, Means, Stop};
use crate::bench::mode::Mode;
use crate::bench::schedule::{Schedule, DEPTHS};
use crate::bench::scope::{scope, Facts, Lockdown, Policy, Scope, Why};
use crate::bench::subject::{self, Refusal, Subject};
use crate::context::Context;
use crate::exit::{Exit, Failure};
use crate::output::Output;
use crate::policy_files;
use crate::progress::Progress;
use crate::render;
use crate::signals::Signals;
use crate::sysfs::Problems;
use crate::trusted::Root;
use crate::turn::Turn;

/// What `bench` found.
#[derive(Debug, Serialize)]
pub struct BenchReport {
    pub dry_run: bool,
    pub group: GroupId,
    /// The disk; `None` if there is none to be measured.
    pub subject: Option<Subject>,
    /// The size of a read, in bytes.
    pub block_size: Option<u64>,
    /// The type that the group had before.
    pub original_type: Option<DomainType>,
    /// The type that it has now, read from the kernel afterwards.
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    /// Why nothing was measured.
    pub refusal: Option<Refusal>,
    /// Why only the present type was.
    pub not_compared: Option<Why>,
    /// How often each type was measured, and for how long at each depth, or would be.
    pub rounds: usize,
    pub slot_ms: u64,
    pub types: Vec<Mode>,
    pub measurements: Vec<Measurement>,
    pub comparisons: Vec<Comparison>,
    pub recommendation: Option<Recommendation>,
    pub exit_code: u8,
}

impl BenchReport {
    fn new(dry_run: bool, group: GroupId) -> Self {
        Self {
            dry_run,
            group,
            subject: None,
            block_size: None,
            original_type: None,
            domain_type: None,
            refusal: None,
            not_compared: None,
            rounds: 0,
            slot_ms: 0,
            types: Vec::new(),
            measurements: Vec::new(),
            comparisons: Vec::new(),
            recommendation: None,
            exit_code: 0,
        }
    }
}

/// Runs the command.
pub fn run(args: &BenchArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(global)?;
    let inventory = context.inventory(&mut Problems::default())?;
    let subject = match subject::find(&context, &args.device, &inventory)? {
        Ok(subject) => subject,
        Err((group, refusal)) => {
            let mut report = BenchReport::new(args.dry_run, group);
            report.original_type = context.sysfs.domain_type(group).ok().flatten();
            report.domain_type = report.original_type.clone();
            report.refusal = Some(refusal);
            return end(report, &context, Exit::Refused, output);
        }
    };
    let bench = Bench {
        args,
        global,
        context: &context,
        subject: &subject,
    };
    let (exit, report) = match args.dry_run {
        true => match bench.scope(output)? {
            Ok((mode, why)) => (Exit::Done, bench.report(mode, why)),
            Err(refusal) => (Exit::Refused, bench.refused(refusal)),
        },
        false => bench.measure(output)?,
    };
    end(report, &context, exit, output)
}

/// Says what there is to say.
fn end(
    mut report: BenchReport,
    context: &Context,
    exit: Exit,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    report.exit_code = exit.code();
    report.domain_type = context.sysfs.domain_type(report.group).ok().flatten();
    let unicode = render::bench::is_utf8(|name| std::env::var(name).ok());
    output.report(&report, |w, r| render::bench::write(w, r, unicode))?;
    let refusal = report.refusal.as_ref().map(|r| (&r.message, &r.advice));
    let why = report.not_compared.as_ref();
    let why = why.map(|w| (&w.message, &w.advice));
    if let Some((message, advice)) = refusal.or(why) {
        let what = match refusal {
            Some(_) => "nothing is measured",
            None => "only the present type is measured",
        };
        output.complain(&format!("{what}: {message}"));
        advice.iter().for_each(|line| output.hint(line));
    }
    Ok(exit)
}

fn cannot_open(error: LoadError) -> Failure {
    let advice = match error.errno() {
        Some(Errno::EACCES | Errno::EPERM) => {
            vec!["run it as root, for example with sudo".to_owned()]
        }
        _ => Vec::new(),
    };
    Failure::new(Exit::Failed, error.to_string()).with_advice(advice)
}

/// One bench.
struct Bench<'a> {
    args: &'a BenchArgs,
    global: &'a Global,
    context: &'a Context,
    subject: &'a Subject,
}

impl Bench<'_> {
    /// What can be measured, as things are now.
    fn scope(&self, output: &mut Output) -> anyhow::Result<Result<Scope, Refusal>> {
        let mut problems = Problems::default();
        let inventory = self.context.inventory_for_policy(&mut problems)?;
        output.problems(&problems);
        let group = inventory.group(self.subject.group);
        let group = group.ok_or_else(|| Failure::new(Exit::Failed, VANISHED))?;
        let facts = Facts {
            group,
            module: self.context.sysfs.has_module(),
            covered: self.context.sysfs.is_covered(group),
            lockdown: match self.context.lockdown() {
                Ok(None) => Lockdown::None,
                Ok(Some(_)) => Lockdown::InForce,
                Err(error) => Lockdown::Unknown(error.to_string()),
            },
            policy: match self.args.allow_against_policy {
                true => Policy::Permits,
                false => policy(self.global.root.as_deref(), group),
            },
        };
        Ok(scope(&facts))
    }

    /// A report without figures: what is to be measured.
    fn report(&self, mode: Mode, why: Option<Why>) -> BenchReport {
        let schedule = self.schedule(mode, why.is_none());
        let mut report = BenchReport::new(self.args.dry_run, self.subject.group);
        report.subject = Some(self.subject.clone());
        report.original_type = Some(mode.domain_type());
        report.rounds = schedule.rounds;
        report.slot_ms = u64::try_from(schedule.slot.as_millis()).unwrap_or(u64::MAX);
        report.types = match why {
            None => vec![mode, mode.other()],
            Some(_) => vec![mode],
        };
        report.not_compared = why;
        report
    }

    /// A report that nothing is measured.
    fn refused(&self, refusal: Refusal) -> BenchReport {
        let mut report = BenchReport::new(self.args.dry_run, self.subject.group);
        report.subject = Some(self.subject.clone());
        report.original_type = self.type_now();
        report.refusal = Some(refusal);
        report
    }

    fn type_now(&self) -> Option<DomainType> {
        let found = self.context.sysfs.domain_type(self.subject.group);
        found.ok().flatten()
    }

    fn schedule(&self, first: Mode, both: bool) -> Schedule {
        Schedule::new(first, both, self.args.seconds)
    }

    /// Measures what can be.
    fn measure(&self, output: &mut Output) -> anyhow::Result<(Exit, BenchReport)> {
        let mut signals = Signals::watch().context("Failed to hold back signals")?;
        let mut scope = self.scope(output)?;
        if let Err(refusal) = scope {
            return Ok((Exit::Refused, self.refused(refusal)));
        }
        let disk = self.subject.open(self.context).map_err(cannot_open)?;
        if matches!(scope, Ok((_, None))) {
            let turn = self.context.turn(self.args.wait.lock_timeout, output)?;
            // Once more, now that it is our turn: who had it before may have changed everything.
            scope = self.scope(output)?;
            if let Ok((mode, None)) = scope {
                match self.both(mode, &disk, turn, &mut signals, output)? {
                    Ended::Whole(slots) => {
                        let report = self.compared(mode, &disk, &slots);
                        return Ok((Exit::Done, report));
                    }
                    Ended::NoOther(why) => scope = Ok((mode, Some(why))),
                }
            }
        }
        let (mode, why) = match scope {
            Ok(scope) => scope,
            Err(refusal) => return Ok((Exit::Refused, self.refused(refusal))),
        };
        let schedule = self.schedule(mode, false);
        let ended = self.slots(&schedule, &disk, None, None, &mut signals, output);
        let mut report = self.report(mode, why);
        report.block_size = Some(disk.block);
        if let Ended::Whole(slots) = ended.map_err(failure)? {
            report.measurements = measurements(&slots);
        }
        Ok((Exit::Partly, report))
    }

    /// Measures both types. Whatever happens, the type is put back before this returns, or it is said that it is not.
    fn both(
        &self,
        mode: Mode,
        disk: &Disk,
        turn: Turn,
        signals: &mut Signals,
        output: &mut Output,
    ) -> anyhow::Result<Ended> {
        let group = self.subject.group;
        if journal::left_behind(&turn.run)?.contains(&group) {
            let message = format!("a bench of group {group} was interrupted, and is not put back");
            let advice = vec!["`iommuctl recover` does that".to_owned()];
            return Err(Failure::new(Exit::Failed, message)
                .with_advice(advice)
                .into());
        }
        let timeout = self.args.kernel.timeout;
        let mut keeper = Keeper::start(group.0, &turn.lock, timeout, self.global)?;
        let schedule = self.schedule(mode, true);
        let ended = self.slots(
            &schedule,
            disk,
            Some(&turn),
            Some(&mut keeper),
            signals,
            output,
        );
        // Before anything else, and whatever there is to be said.
        let restored = keeper.end();
        match (ended, restored) {
            (Ok(ended), Ok((true, _))) => Ok(ended),
            (Err(stop), Ok((true, words))) => {
                let mut failure = failure(stop);
                failure.message = format!("{}; {words}", failure.message);
                Err(failure.into())
            }
            (_, Ok((false, words))) => Err(not_restored(group, &words).into()),
            (_, Err(KeeperError::Gone | KeeperError::Start(_))) => self.without_guard(turn, output),
            (_, Err(silent @ KeeperError::Silent(_))) => {
                Err(not_restored(group, &silent.to_string()).into())
            }
        }
    }

    /// The guard was killed: what it was to do is done here, from its journal.
    fn without_guard(&self, turn: Turn, output: &mut Output) -> anyhow::Result<Ended> {
        // It may have been killed in the middle of a change: the child that makes it has a copy of the lock, and is waited for.
        drop(turn);
        let group = self.subject.group;
        let patience = self.args.wait.lock_timeout;
        let restored = self.context.turn(patience, output).and_then(|turn| {
            let found = journal::read(&turn.run, group)?;
            let restored = found.map(|journal| {
                let (run, trail) = (&turn.run, &turn.trail);
                let timeout = self.args.kernel.timeout;
                let restored = crate::bench::restore::restore(
                    self.context,
                    run,
                    trail,
                    &turn.lock,
                    &journal,
                    timeout,
                );
                (restored.is_whole(), restored.words(journal.original))
            });
            output.audit(&turn.trail);
            Ok(restored)
        });
        let message = KeeperError::Gone.to_string();
        match restored {
            Ok(None) => Err(Failure::new(Exit::Failed, message).into()),
            Ok(Some((true, words))) => {
                Err(Failure::new(Exit::Failed, format!("{message}; {words}")).into())
            }
            Ok(Some((false, words))) => Err(not_restored(group, &words).into()),
            Err(error) => Err(not_restored(group, &format!("{error:#}")).into()),
        }
    }

    fn slots(
        &self,
        schedule: &Schedule,
        disk: &Disk,
        turn: Option<&Turn>,
        keeper: Option<&mut Keeper>,
        signals: &mut Signals,
        output: &Output,
    ) -> Result<Ended, Stop> {
        let total = schedule.order.len() * DEPTHS.len();
        let mut progress = Progress::of(output.wants_progress(), total, "measurements");
        let mut means = Means {
            context: self.context,
            group: self.subject.group,
            disk,
            signals,
            run: turn.map(|t| &t.run),
            keeper,
            tick: &mut |done, doing| progress.tick(done, doing),
        };
        let ended = means.run(schedule);
        progress.finish();
        ended
    }

    fn compared(&self, mode: Mode, disk: &Disk, slots: &[Slot]) -> BenchReport {
        let mut report = self.report(mode, None);
        report.block_size = Some(disk.block);
        report.measurements = measurements(slots);
        report.comparisons = comparisons(slots);
        let about = About {
            target: &self.subject.node,
            name: &self.subject.disk,
            address: self.subject.address,
            original: mode,
        };
        report.recommendation = Some(recommend(&report.comparisons, &about));
        report
    }
}

/// What the policy of the system says about a group's being lazy.
fn policy(root: Option<&Path>, group: &Group) -> Policy {
    let loaded = match Root::open(root) {
        Ok(root) => policy_files::load(&root),
        Err(error) => return Policy::Unknown(error.to_string()),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            let first = errors.first().map(ToString::to_string);
            return Policy::Unknown(first.unwrap_or_default());
        }
    };
    let decision = evaluate_group(&loaded.policy, group);
    let strict = decision.request == Some(TypeRequest::Dma);
    let kept = decision.never_laxer && group.domain_type == Some(DomainType::Dma);
    if !strict && !kept {
        return Policy::Permits;
    }
    let rules = decision.votes.iter().filter_map(|vote| vote.wish.rule());
    let mut names: Vec<String> = rules
        .filter_map(|index| RuleName::of(&loaded.policy, index))
        .map(|rule| rule.name)
        .collect();
    names.dedup();
    Policy::Strict(names)
}

fn failure(stop: Stop) -> Failure {
    let advice = match &stop {
        Stop::Switch(_, advice) => advice.clone(),
        Stop::Wanted => vec!["repeat the command when that one has ended".to_owned()],
        Stop::Foreign(_) => {
            vec!["`iommuctl audit log` may know who did".to_owned()]
        }
        Stop::Signal(_) | Stop::Keeper(_) | Stop::Disk(_) => Vec::new(),
    };
    Failure::new(Exit::Failed, stop.to_string()).with_advice(advice)
}

fn not_restored(group: GroupId, why: &str) -> Failure {
    let message = format!("group {group} may not have its own type: {why}");
    Failure::new(Exit::Failed, message).with_advice(vec![
        "`iommuctl recover` puts it back, when what is in the way is gone".to_owned(),
        format!("`iommuctl show {group}` says what it is now"),
    ])
}

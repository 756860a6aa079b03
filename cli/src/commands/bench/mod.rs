// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl bench`: measures what lazy is worth, for one disk.

pub mod args;
pub mod text;

use iommuctl_policy::{DomainType, GroupId};
use nix::errno::Errno;
use serde::Serialize;

use self::args::BenchArgs;
use crate::bench::benchmark::Benchmark;
use crate::bench::covers::Covers;
use crate::bench::disk::{Disk, DiskError};
use crate::bench::measure::figures::{
    comparisons, measurements, Change, Comparison, Measurement, Slot,
};
use crate::bench::measure::rounds::Ended;
use crate::bench::measure::schedule::{loads, Schedule, LARGE_READ_SIZE};
use crate::bench::mode::Mode;
use crate::bench::recommendation::{recommend, About, Recommendation};
use crate::bench::scope::disk_of::{self, Refusal, Subject};
use crate::bench::scope::facts::gather;
use crate::bench::scope::rules::{scope, Scope, Why};
use crate::bench::single_instance;
use crate::change::advice::VANISHED;
use crate::change::session::may_change;
use crate::commands::common::args::Global;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::recovery::begin;
use crate::terminal::output::Output;

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
    /// The same of large reads; `None` if there were none.
    pub large: Option<Large>,
    /// How long each change of the type took, in their order.
    pub changes: Vec<Change>,
    /// Which unmaps are lazy in a lazy group; `None` if it is not known.
    pub lazy_covers: Option<Covers>,
    pub recommendation: Option<Recommendation>,
    pub exit_code: u8,
}

/// What was measured of large reads.
#[derive(Debug, Serialize)]
pub struct Large {
    /// The size of a read, in bytes.
    pub block_size: u64,
    pub measurements: Vec<Measurement>,
    pub comparisons: Vec<Comparison>,
}

impl Large {
    fn of(slots: &[Slot]) -> Option<Self> {
        let measurements = measurements(slots, true);
        (!measurements.is_empty()).then(|| Self {
            block_size: LARGE_READ_SIZE,
            measurements,
            comparisons: comparisons(slots, true),
        })
    }
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
            large: None,
            changes: Vec::new(),
            lazy_covers: None,
            recommendation: None,
            exit_code: 0,
        }
    }
}

/// Runs the command.
pub fn run(args: &BenchArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    disk_of::check(&args.device)?;
    let context = Context::open(&global.roots)?;
    let inventory = context.inventory(&mut Problems::default())?;
    let subject = match disk_of::find(&context, &args.device, &inventory)? {
        Ok(subject) => subject,
        Err((group, refusal)) => {
            let mut report = BenchReport::new(args.dry_run, group);
            report.original_type = context.sysfs.domain_type(group).ok().flatten();
            report.domain_type = report.original_type.clone();
            report.refusal = Some(refusal);
            return end(report, &context, Exit::Refused, output);
        }
    };
    single_instance::check(&context, &subject)?;
    let bench = Bench {
        args,
        global,
        context: &context,
        subject: &subject,
    };
    let (exit, report) = match args.dry_run {
        true => match bench.scope(output)? {
            Ok((mode, why)) => {
                // Whether it has room for large reads shows when it is opened: all but the smallest have.
                let exit = match why {
                    None => Exit::Done,
                    Some(_) => Exit::Partly,
                };
                (exit, bench.report(mode, why, true))
            }
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
    let release = context.proc.kernel().release;
    report.lazy_covers = release.as_deref().and_then(Covers::of);
    let unicode = crate::terminal::locale::is_unicode();
    output.report(&report, |w, r| text::write(w, r, unicode))?;
    let refusal = report.refusal.as_ref().map(|r| (&r.message, &r.advice));
    let why = report.not_compared.as_ref();
    let why = why.map(|w| (&w.message, &w.advice));
    if let Some((message, advice)) = refusal.or(why) {
        let what = match refusal {
            Some(_) => "nothing is measured",
            None => PRESENT_ONLY,
        };
        output.complain(&format!("{what}: {message}"));
        advice.iter().for_each(|line| output.hint(line));
    }
    Ok(exit)
}

const PRESENT_ONLY: &str = "only the present type is measured";

fn cannot_open(error: DiskError) -> Failure {
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
        output.warn_all(problems.iter());
        let group = inventory.group(self.subject.group);
        let group = group.ok_or_else(|| Failure::new(Exit::Failed, VANISHED))?;
        let facts = gather(self.context, group, self.args.allow_against_policy);
        Ok(scope(&facts))
    }

    /// A report without figures: what is to be measured.
    fn report(&self, mode: Mode, why: Option<Why>, with_large: bool) -> BenchReport {
        let schedule = self.schedule(mode, why.is_none(), with_large);
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

    fn schedule(&self, first: Mode, both: bool, with_large: bool) -> Schedule {
        Schedule::new(first, both, loads(with_large), self.args.seconds)
    }

    /// Measures what can be.
    fn measure(&self, output: &mut Output) -> anyhow::Result<(Exit, BenchReport)> {
        let mut scope = self.scope(output)?;
        if let Err(refusal) = scope {
            return Ok((Exit::Refused, self.refused(refusal)));
        }
        let disk = self.subject.open(self.context).map_err(cannot_open)?;
        let lock_timeout = self.args.wait.lock_timeout;
        let begin = |output: &mut Output| begin(self.context, lock_timeout, output);
        let benchmark = Benchmark {
            context: self.context,
            roots: &self.global.roots,
            group: self.subject.group,
            disk: &disk,
            timeout: self.args.timeout,
            begin: &begin,
        };
        let both = matches!(scope, Ok((_, None)));
        let large = disk.has_large();
        // Exclude other benches before waiting for the lock, since a waiting process ends a running bench. Unprivileged callers
        // create nothing in `/run`.
        let _alone = match may_change(self.context) {
            Ok(()) => Some(single_instance::begin(self.context, self.subject)?),
            Err(failure) if both => return Err(failure.into()),
            Err(_) => None,
        };
        if both {
            let session = begin(output)?;
            // Decide again with the lock held: its previous holder may have changed everything.
            scope = self.scope(output)?;
            if let Ok((mode, None)) = scope {
                self.mention_others(output);
                match benchmark.both(&self.schedule(mode, true, large), session, output)? {
                    Ended::Whole(slots, changes) => {
                        let mut report = self.compared(mode, &disk, &slots);
                        report.changes = changes;
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
        if let Some(why) = &why {
            // Now, while there is still something to be gained by stopping.
            output.remark(&format!("{PRESENT_ONLY}: {}", why.message));
        }
        let ended = benchmark.present(&self.schedule(mode, false, large), output)?;
        let mut report = self.report(mode, why, large);
        report.block_size = Some(disk.block);
        if let Ended::Whole(slots, _) = ended {
            report.measurements = measurements(&slots, false);
            report.large = Large::of(&slots);
        }
        Ok((Exit::Partly, report))
    }

    /// What shares the group changes with it.
    fn mention_others(&self, output: &mut Output) {
        let group = self.subject.group;
        let found = self.context.sysfs.group(group, &mut Problems::default());
        let devices = found.map(|group| group.devices).unwrap_or_default();
        let others = devices
            .iter()
            .filter(|d| !d.is_bridge() && d.address != self.subject.address);
        let names: Vec<&str> = others.map(|d| d.name.as_str()).collect();
        if !names.is_empty() {
            output.remark(&format!(
                "group {group} has more in it, whose type changes with that of the disk: {}",
                names.join(", ")
            ));
        }
    }

    fn compared(&self, mode: Mode, disk: &Disk, slots: &[Slot]) -> BenchReport {
        let mut report = self.report(mode, None, disk.has_large());
        report.block_size = Some(disk.block);
        report.measurements = measurements(slots, false);
        report.comparisons = comparisons(slots, false);
        report.large = Large::of(slots);
        let about = About {
            target: &self.subject.node,
            name: &self.subject.disk,
            address: self.subject.address,
            original: mode,
        };
        let large = report
            .large
            .as_ref()
            .map(|large| large.comparisons.as_slice());
        let large = large.unwrap_or_default();
        report.recommendation = Some(recommend(&report.comparisons, large, &about));
        report
    }
}

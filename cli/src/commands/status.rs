// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl status`: the IOMMU, the kernel's defaults, the module, and how many groups there are of each type.
//!
//! A machine without an IOMMU has a status, too: that is not a failure here.

use std::collections::BTreeMap;
use std::io::{self, Write};
use std::time::Duration;

use iommuctl_policy::{DomainType, GroupId};
use jiff::tz::TimeZone;
use jiff::Timestamp;
use nix::errno::Errno;
use serde::Serialize;

use crate::audit::clock;
use crate::bench;
use crate::change::rebind;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::{by_driver, Cleanup, Cleanups, Iommu, Module, Problems};
use crate::recovery::Interrupted;
use crate::state::lockdown::in_force;
use crate::state::lockdown::InForce;
use crate::state::unfinished::Unfinished;
use crate::sys::private_dir::PrivateDir;
use crate::terminal::output::Output;
use crate::terminal::{duration, style};

/// What `status` found.
#[derive(Debug, Serialize)]
pub struct StatusReport {
    pub kernel: KernelReport,
    pub iommus: Vec<Iommu>,
    /// `None` if it is not loaded.
    pub module: Option<Module>,
    pub groups: GroupCounts,
    /// The one in force; `None` if there is none, or if it may not be known.
    pub lockdown: Option<InForce>,
    /// What was interrupted and is not brought back yet; empty if nothing was, or if it may not be known.
    pub interrupted: Vec<UnfinishedReport>,
    /// What turns an IOMMU on; empty if there is one.
    pub advice: Vec<String>,
    /// When all of this was so.
    #[serde(skip)]
    pub now: Now,
}

/// A moment, by the clock that people read and by the one that the module reads.
#[derive(Clone, Copy, Debug)]
pub struct Now {
    /// On the wall.
    pub time: Timestamp,
    /// Since boot.
    pub uptime: Duration,
}

/// The kernel and its defaults.
#[derive(Debug, Serialize)]
pub struct KernelReport {
    pub release: Option<String>,
    pub parameters: Vec<String>,
    pub default_type: Option<DomainType>,
    /// The parameter or the configuration option that says so.
    pub default_source: Option<String>,
}

/// A change of a group that was interrupted.
#[derive(Debug, Serialize)]
pub struct UnfinishedReport {
    pub group: GroupId,
    pub interrupted: Interrupted,
    /// The type it had before; `None` if the journal does not say.
    pub old_type: Option<String>,
    /// The type it has now.
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
}

/// How many groups there are.
#[derive(Debug, Serialize)]
pub struct GroupCounts {
    pub total: usize,
    /// By type, as the kernel says it; `unreadable` where it does not.
    pub by_type: BTreeMap<String, usize>,
}

/// Runs the command.
pub fn run(context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::default();
    let types = context.sysfs.domain_types(&mut problems)?;
    let kernel = context.proc.kernel();
    let mut by_type = BTreeMap::new();
    for domain_type in &types {
        let name = domain_type.as_ref();
        let name = name.map_or("unreadable", DomainType::as_str).to_owned();
        *by_type.entry(name).or_insert(0) += 1;
    }
    let lockdown = in_force(context.run_root.as_deref()).unwrap_or_else(|error| {
        output.warn(&format!(
            "it is not known whether a lockdown is in force: {error}"
        ));
        None
    });
    let (default_type, default_source) = kernel.default.map(|d| (d.domain_type, d.source)).unzip();
    let report = StatusReport {
        kernel: KernelReport {
            release: kernel.release,
            parameters: kernel.parameters,
            default_type,
            default_source,
        },
        iommus: context.sysfs.iommus(&mut problems),
        module: context.sysfs.module(&mut problems),
        advice: if types.is_empty() {
            context.how_to_enable_iommu()
        } else {
            Vec::new()
        },
        groups: GroupCounts {
            total: types.len(),
            by_type,
        },
        lockdown,
        interrupted: interrupted(context, output),
        now: Now {
            time: clock::now(),
            uptime: clock::uptime(),
        },
    };
    output.report(&report, write)?;
    output.warn_all(problems.iter());
    Ok(Exit::Done)
}

/// What was interrupted. While somebody is at work, what is there may be theirs, and is nothing to be told of.
fn interrupted(context: &Context, output: &mut Output) -> Vec<UnfinishedReport> {
    match Unfinished::look(context.run_root.as_deref()) {
        Ok((unfinished, Some(run))) if !unfinished.busy => {
            let rebinds = unfinished
                .rebinds
                .iter()
                .map(|id| rebind(context, &run, *id));
            let benches = unfinished
                .benches
                .iter()
                .map(|id| bench(context, &run, *id));
            rebinds.chain(benches).collect()
        }
        Ok(_) => Vec::new(),
        // Journals are for root alone.
        Err(error) if error.errno() == Some(Errno::EACCES) => Vec::new(),
        Err(error) => {
            output.warn(&format!(
                "it is not known whether a rebind or a bench was interrupted: {error}"
            ));
            Vec::new()
        }
    }
}

fn rebind(context: &Context, run: &PrivateDir, group: GroupId) -> UnfinishedReport {
    let found = rebind::journal::read(run, group).ok().flatten();
    let plan = found.and_then(|found| found.plan);
    unfinished(
        context,
        group,
        Interrupted::Rebind,
        plan.map(|p| p.old_type),
    )
}

fn bench(context: &Context, run: &PrivateDir, group: GroupId) -> UnfinishedReport {
    let found = bench::guard::journal::read(run, group).ok().flatten();
    let original = found.map(|journal| journal.original.to_string());
    unfinished(context, group, Interrupted::Bench, original)
}

/// What cannot be read of a journal is for `recover` to say.
fn unfinished(
    context: &Context,
    group: GroupId,
    interrupted: Interrupted,
    old_type: Option<String>,
) -> UnfinishedReport {
    UnfinishedReport {
        group,
        interrupted,
        old_type,
        domain_type: context.sysfs.domain_type(group).ok().flatten(),
    }
}

/// Writes everything, one subject on each line.
pub fn write(w: &mut dyn Write, report: &StatusReport) -> io::Result<()> {
    let kernel = &report.kernel;
    field(w, "IOMMU", &by_driver(&report.iommus))?;
    field(w, "kernel", kernel.release.as_deref().unwrap_or("unknown"))?;
    let parameters = match kernel.parameters.as_slice() {
        [] => "none about IOMMUs".to_owned(),
        words => words.join(" "),
    };
    field(w, "parameters", &parameters)?;
    let default = match (&kernel.default_type, &kernel.default_source) {
        (Some(kind), Some(source)) => format!("{kind} ({source})"),
        _ => {
            "unknown (no parameter says, and the kernel's configuration is not readable)".to_owned()
        }
    };
    field(w, "default", &default)?;
    field(w, "groups", &groups(report))?;
    if let Some(in_force) = &report.lockdown {
        field(w, "Lockdown", &lockdown(in_force))?;
    }
    for unfinished in &report.interrupted {
        write_interrupted(w, unfinished)?;
    }
    match &report.module {
        None => field(w, "iommu_live", "not loaded")?,
        Some(module) => write_module(w, module, report.now)?,
    }
    for line in &report.advice {
        writeln!(w, "  - {line}")?;
    }
    Ok(())
}

fn field(w: &mut dyn Write, name: &str, value: &str) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "{head}{name:<10}{head:#}  {value}")
}

fn groups(report: &StatusReport) -> String {
    let by_type = report.groups.by_type.iter();
    let counts: Vec<String> = by_type.map(|(name, n)| format!("{n} {name}")).collect();
    match counts.as_slice() {
        [] => "none".to_owned(),
        counts => format!("{} ({})", report.groups.total, counts.join(", ")),
    }
}

/// Until when it lasts, and what it did.
fn lockdown(in_force: &InForce) -> String {
    let mut until = Vec::new();
    if in_force.standing {
        until.push("until `iommuctl release`".to_owned());
    }
    if !in_force.processes.is_empty() {
        let processes = in_force.processes.join(", ");
        until.push(format!("while a command runs (process {processes})"));
    }
    let groups = in_force.groups;
    format!(
        "in force {}; groups made strict: {groups}",
        until.join(" and ")
    )
}

/// What was interrupted, and how the group may be now. What `recover` can do about it is found out there.
fn write_interrupted(w: &mut dyn Write, unfinished: &UnfinishedReport) -> io::Result<()> {
    let (name, what) = match unfinished.interrupted {
        Interrupted::Rebind => (
            "rebind",
            "may be without its drivers; `iommuctl recover` sees to it".to_owned(),
        ),
        Interrupted::Bench => ("bench", after_bench(unfinished)),
    };
    let (warn, group) = (style::WARN, unfinished.group);
    let text = format!("{warn}interrupted{warn:#}; group {group} {what}");
    field(w, name, &text)
}

fn after_bench(unfinished: &UnfinishedReport) -> String {
    let now = unfinished.domain_type.as_ref().map(DomainType::as_str);
    match (unfinished.old_type.as_deref(), now) {
        (Some(old), Some(now)) if old == now => {
            format!("is {now}, as it was; `iommuctl recover` clears away what was left")
        }
        (Some(old), Some(now)) => format!("was {old}, and is {now}; `iommuctl recover` sees to it"),
        (Some(old), None) => format!("was {old}; `iommuctl recover` sees to it"),
        (None, _) => "may not have its own type; `iommuctl recover` sees to it".to_owned(),
    }
}

/// What it means that the module has tripped.
const TRIPPED: &str = "something that iommu_live relies on was not so, and it switches nothing until the next boot: groups that it \
                       has switched stay strict, and their unmaps slower; reboot, and report it with the kernel log";

fn write_module(w: &mut dyn Write, module: &Module, now: Now) -> io::Result<()> {
    let version = module.version.as_deref().unwrap_or("of unknown version");
    let drivers = match module.drivers.as_slice() {
        [] => "unknown IOMMU drivers".to_owned(),
        names => names.join(", "),
    };
    field(w, "iommu_live", &format!("{version}, for {drivers}"))?;
    if module.tripped() == Some(true) {
        let bad = style::BAD;
        field(w, "tripped", &format!("{bad}{TRIPPED}{bad:#}"))?;
    }
    if let Some(audit) = &module.audit {
        field(w, "functions", &functions(audit))?;
    }
    if let Some(cleanups) = &module.cleanups {
        write_cleanups(w, cleanups, now)?;
    }
    let counters = module
        .counters
        .iter()
        .map(|(name, value)| match name.strip_suffix("_ns") {
            Some(time) => (time, duration::shown(Duration::from_nanos(*value))),
            None => (name.as_str(), value.to_string()),
        });
    let counters: Vec<(&str, String)> = counters.collect();
    let width = counters.iter().map(|(name, _)| name.len()).max();
    let width = width.unwrap_or(0);
    for (name, value) in counters {
        writeln!(w, "{:12}{name:<width$}  {value}", "")?;
    }
    Ok(())
}

/// How far the functions of the running kernel are known to be those that were read.
fn functions(audit: &str) -> String {
    match audit {
        "audited" => "audited: this kernel's functions are those that were read".to_owned(),
        "series" => "of a series that was read; this build was not compared".to_owned(),
        "override" => {
            "not audited: this kernel is switched since the administrator said so".to_owned()
        }
        other => other.to_owned(),
    }
}

/// One line for each group that is being cleaned up.
fn write_cleanups(w: &mut dyn Write, cleanups: &Cleanups, now: Now) -> io::Result<()> {
    let zone = TimeZone::system();
    for one in &cleanups.groups {
        field(w, "clean-up", &cleanup(one, now, &zone))?;
    }
    match cleanups.more {
        0 => Ok(()),
        1 => field(w, "clean-up", "1 more group"),
        more => field(w, "clean-up", &format!("{more} more groups")),
    }
}

/// `group 12: strict since 14:02:11.123; cleaning up for 40 s; 2 late comers, 0 ranges given up`.
fn cleanup(one: &Cleanup, now: Now, zone: &TimeZone) -> String {
    let since = match one.strict_since_ns {
        Some(ns) => {
            let age = now.uptime.saturating_sub(Duration::from_nanos(ns));
            // Whole seconds: what follows them has passed before anybody has read it.
            let shown = match age.as_secs() {
                0 => age,
                seconds => Duration::from_secs(seconds),
            };
            format!(
                "strict since {}; cleaning up for {}",
                clock_time(now.time, age, zone),
                duration::shown(shown)
            )
        }
        None => "lazy again; cleaning up".to_owned(),
    };
    let count = |n: u64, one: &str, many: &str| match n {
        1 => format!("1 {one}"),
        n => format!("{n} {many}"),
    };
    format!(
        "group {}: {since}; {}, {} given up",
        one.group,
        count(one.late_comers, "late comer", "late comers"),
        count(one.given_up, "range", "ranges"),
    )
}

/// What the clock on the wall said so long ago; with the date, if that was another day.
fn clock_time(now: Timestamp, ago: Duration, zone: &TimeZone) -> String {
    let then = now.checked_sub(ago).unwrap_or(now).to_zoned(zone.clone());
    let format = match then.date() == now.to_zoned(zone.clone()).date() {
        true => "%H:%M:%S%.3f",
        false => "%Y-%m-%d %H:%M:%S%.3f",
    };
    then.strftime(format).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_under_way_is_said_in_a_line() {
        let now = Now {
            time: "2026-03-04T14:02:51.923Z".parse().unwrap(),
            uptime: Duration::from_millis(140_800),
        };
        let said = |line: &str| cleanup(&line.parse().unwrap(), now, &TimeZone::UTC);
        let line =
            "group=12 step=armed strict_since_ns=100000000000 late_comers=2 collected=2 given_up=0";
        assert_eq!(
            said(line),
            "group 12: strict since 14:02:11.123; cleaning up for 40 s; 2 late comers, 0 ranges given up"
        );
        let line = "group=3 step=restored strict_since_ns=0 late_comers=1 collected=0 given_up=1";
        assert_eq!(
            said(line),
            "group 3: lazy again; cleaning up; 1 late comer, 1 range given up"
        );
    }

    #[test]
    fn another_day_is_named() {
        let now: Timestamp = "2026-03-04T00:00:10Z".parse().unwrap();
        let said = |seconds| clock_time(now, Duration::from_secs(seconds), &TimeZone::UTC);
        assert_eq!(said(10), "00:00:00.000");
        assert_eq!(said(11), "2026-03-03 23:59:59.000");
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit log`: who changed what.

use std::collections::VecDeque;
use std::time::Duration;

use clap::ValueEnum;

use super::period::Period;
use super::{entry_lines as render, places, snapshot, unreadable};
use crate::audit::clock;
use crate::audit::event::{Event, EventOutcome, Member};
use crate::audit::history::changes::{ChangeCorrelator, Entry};
use crate::audit::log::file::Places;
use crate::audit::log::read::{self, Position};
use crate::commands::common::args::Global;
use crate::exit::Exit;
use crate::kernel::procfs::Proc;
use crate::terminal::output::Output;

/// Arguments of `audit log`.
#[derive(Debug, clap::Args)]
pub struct LogArgs {
    /// Only in this period.
    #[command(flatten)]
    pub period: Period,
    /// Only the group with this number, in whatever boot
    #[arg(short, long, value_name = "NUMBER")]
    pub group: Option<u32>,
    /// Only groups with this device, by its name in sysfs or its PCI ids (0000:00:04.0, 8086:100e)
    #[arg(short, long, value_name = "DEVICE")]
    pub device: Option<String>,
    /// Only what this user (a number), process name, program, unit or rule did; or `bench`: what was done to measure
    #[arg(short, long, value_name = "WHO")]
    pub who: Option<String>,
    /// Only what ended so; can be given several times
    #[arg(short, long, value_name = "OUTCOME", value_enum)]
    pub outcome: Vec<EventOutcome>,
    /// Only this boot
    #[arg(short, long)]
    pub boot: bool,
    /// Only the last of them
    #[arg(short = 'n', long, value_name = "NUMBER")]
    pub lines: Option<usize>,
    /// Go on, and show what happens
    #[arg(short, long)]
    pub follow: bool,
}

impl ValueEnum for EventOutcome {
    fn value_variants<'a>() -> &'a [Self] {
        &Self::ALL
    }

    fn to_possible_value(&self) -> Option<clap::builder::PossibleValue> {
        Some(clap::builder::PossibleValue::new(self.as_str()))
    }
}

/// How often the log is looked at for what is new.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// What is looked for.
struct Filter<'a> {
    args: &'a LogArgs,
    boot: Option<String>,
}

impl Filter<'_> {
    fn takes(&self, entry: &Entry) -> bool {
        let (args, event) = (self.args, &entry.event);
        args.period.since.is_none_or(|since| event.time >= since)
            && args.period.until.is_none_or(|until| event.time < until)
            && args.group.is_none_or(|group| event.group == group)
            && args
                .device
                .as_ref()
                .is_none_or(|d| event.devices.iter().any(|m| is(m, d)))
            && args.who.as_ref().is_none_or(|who| did(event, who))
            && (args.outcome.is_empty() || args.outcome.contains(&entry.outcome()))
            && self.boot.as_ref().is_none_or(|boot| event.boot == *boot)
    }
}

/// Whether a device is the one that is meant: by its name, with or without the PCI domain, or by its ids.
fn is(member: &Member, device: &str) -> bool {
    let ids = || {
        member
            .ids
            .as_ref()
            .is_some_and(|ids| ids.starts_with(device))
    };
    member.name == device || member.name.strip_prefix("0000:") == Some(device) || ids()
}

fn did(event: &Event, who: &str) -> bool {
    let known = &event.who;
    let number = who.parse().ok();
    let program = known.executable.as_deref();
    let name = program.and_then(|path| path.rsplit('/').next());
    (number.is_some() && (known.login_uid == number || known.uid == number))
        || [
            known.command.as_deref(),
            program,
            name,
            known.unit.as_deref(),
            known.cause.as_deref(),
        ]
        .contains(&Some(who))
        || known.rules.iter().any(|rule| rule == who)
}

/// Runs the command.
pub fn run(args: &LogArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let proc = Proc::open(global.roots.proc_root.as_deref())?;
    let filter = Filter {
        args,
        boot: args.boot.then(|| proc.boot_id()),
    };
    let places = places(global);
    let mut shown = render::Shown::begin(output, args.follow)?;
    let mut position = Position::default();
    let mut story = ChangeCorrelator::default();
    let mut last: VecDeque<Entry> = VecDeque::new();
    let mut result = Ok(());
    let mut each = |entry: Entry| {
        if !filter.takes(&entry) {
            return;
        }
        match args.lines {
            None => {
                if result.is_ok() {
                    result = shown.entry(&entry, output);
                }
            }
            Some(most) => {
                last.push_back(entry);
                if last.len() > most {
                    last.pop_front();
                }
            }
        }
    };
    if !args.follow {
        snapshot(&places)?;
    }
    read::events(&places, &mut position, |event| story.tell(event, &mut each))
        .map_err(unreadable)?;
    if args.follow {
        story.release(clock::now(), &mut each);
    } else {
        let is_at_work = |event: &Event| event.is_at_work(&proc);
        std::mem::take(&mut story).end(is_at_work, &mut each);
    }
    result?;
    for entry in last {
        shown.entry(&entry, output)?;
    }
    if args.follow {
        follow(&places, position, story, &filter, &mut shown, output)?;
    }
    shown.end(output)?;
    Ok(Exit::Done)
}

/// Shows what is recorded from now on, until the program is ended.
fn follow(
    places: &Places,
    mut position: Position,
    mut story: ChangeCorrelator,
    filter: &Filter<'_>,
    shown: &mut render::Shown,
    output: &mut Output,
) -> anyhow::Result<()> {
    loop {
        let mut entries = Vec::new();
        let mut each = |entry: Entry| entries.push(entry);
        read::events(places, &mut position, |event| story.tell(event, &mut each))
            .map_err(unreadable)?;
        story.release(clock::now(), &mut each);
        for entry in entries.iter().filter(|entry| filter.takes(entry)) {
            shown.entry(entry, output)?;
        }
        std::thread::sleep(POLL_INTERVAL);
    }
}

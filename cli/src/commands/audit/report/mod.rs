// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit report`: for each device, how long it was in which type, and who changed it.

pub mod html;
pub mod html_words;
pub mod text;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use iommuctl_policy::{Group, GroupId, Inventory};
use jiff::Timestamp;
use serde::Serialize;

use self::text as render;
use super::period::Period;
use super::{places, snapshot, unreadable};
use crate::audit::clock;
use crate::audit::event::{Event, Member};
use crate::audit::history::boots::Boots;
use crate::audit::history::changes::{ChangeCorrelator, Entry};
use crate::audit::history::devices::{
    time, Author, Change, Counts, DeviceHistory, History, Past, Window,
};
use crate::audit::history::spans::{Span, State, States};
use crate::audit::log::read::{self, Position};
use crate::commands::common::args::Global;
use crate::exit::{Exit, Failure};
use crate::kernel::pci_ids::PciNames;
use crate::kernel::procfs::Proc;
use crate::sys::atomic_file;
use crate::terminal::output::Output;

/// Arguments of `audit report`.
#[derive(Debug, clap::Args)]
pub struct ReportArgs {
    /// Only in this period.
    #[command(flatten)]
    pub period: Period,
    /// Write one HTML page that needs nothing else into this file, which only its owner can read
    #[arg(long, value_name = "FILE")]
    pub html: Option<PathBuf>,
}

/// The log is for root alone, and so is what is made of it.
const MODE: u32 = 0o600;

/// What `audit report` found.
#[derive(Debug, Serialize)]
pub struct PastReport {
    pub from: Timestamp,
    pub to: Timestamp,
    /// How many devices were not strict at some time.
    pub not_strict: usize,
    pub devices: Vec<DeviceHistoryReport>,
    /// How many changes and attempts name no device: their group was gone.
    pub nameless: u64,
}

/// The history of a device.
#[derive(Debug, Serialize)]
pub struct DeviceHistoryReport {
    pub device: String,
    /// Vendor and model.
    pub description: Option<String>,
    pub path: String,
    pub ids: Option<String>,
    pub driver: Option<String>,
    pub external: bool,
    /// Whether it was not strict at some time.
    pub not_strict: bool,
    /// What it was at the end; `None` if that is not known.
    #[serde(rename = "type_at_end")]
    pub at_end: Option<&'static str>,
    /// How long it was what; all of the period together.
    pub milliseconds: BTreeMap<&'static str, i64>,
    #[serde(flatten)]
    pub counts: Counts,
    pub changed_by: Vec<Author>,
    /// How many changes are by others than those.
    pub changed_by_others: u64,
    pub spans: Vec<SpanReport>,
    /// The latest changes and attempts.
    pub listed: Vec<Change>,
    /// How many there were before those.
    pub not_listed: u64,
}

/// From when to when it was what.
#[derive(Debug, Serialize)]
pub struct SpanReport {
    pub from: Timestamp,
    pub to: Timestamp,
    /// One; or several in turn, if they changed too often to tell each.
    #[serde(serialize_with = "type_names")]
    pub types: States,
}

fn type_names<S: serde::Serializer>(states: &States, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(states.iter().map(State::as_str))
}

impl SpanReport {
    fn of(span: &Span) -> Self {
        Self {
            from: time(span.from),
            to: time(span.to),
            types: span.states,
        }
    }
}

impl DeviceHistoryReport {
    fn of(device: DeviceHistory, names: &PciNames, begin: i64, end: i64) -> Self {
        let not_strict = device.was_weak();
        let spans = device.spans.filled(begin);
        let last = spans.last().filter(|span| span.to == end);
        let at_end = last.and_then(|span| span.states.single());
        let at_end = at_end.filter(|state| *state != State::NotKnown);
        let mut milliseconds: BTreeMap<&str, i64> = BTreeMap::new();
        for (state, length) in device.spans.time() {
            *milliseconds.entry(state.as_str()).or_default() += length;
        }
        let known: i64 = milliseconds.values().sum();
        let rest = (end - begin - known).max(0);
        *milliseconds.entry(State::NotKnown.as_str()).or_default() += rest;
        let (changed_by, changed_by_others) = device.authors();
        Self {
            description: names.full(&pci_device(&device.member)),
            device: device.member.name,
            path: device.member.path,
            ids: device.member.ids,
            driver: device.member.driver,
            external: device.member.external,
            not_strict,
            at_end: at_end.map(State::as_str),
            milliseconds,
            counts: device.counts,
            changed_by,
            changed_by_others,
            spans: spans.iter().map(SpanReport::of).collect(),
            listed: device.listed.into(),
            not_listed: device.more,
        }
    }

    /// How long it was what, in milliseconds.
    pub fn time(&self, state: State) -> i64 {
        let time = self.milliseconds.get(state.as_str());
        time.copied().unwrap_or(0)
    }
}

/// What of a device its names are found by.
fn pci_device(member: &Member) -> iommuctl_policy::Device {
    let mut ids = member.ids.as_deref().unwrap_or_default().split(':');
    let mut id = || ids.next().and_then(|id| id.parse().ok());
    iommuctl_policy::Device {
        name: member.name.clone(),
        path: member.path.clone(),
        bus: None,
        address: None,
        vendor: id(),
        device: id(),
        subsystem_vendor: None,
        subsystem_device: None,
        class: None,
        driver: None,
        removable: None,
        numa_node: None,
        firmware: None,
        modalias: None,
    }
}

/// The names of all of `devices`.
fn names_of(devices: &[DeviceHistory], file: Option<&Path>) -> PciNames {
    let all = Group {
        id: GroupId(0),
        name: None,
        domain_type: None,
        devices: devices.iter().map(|d| pci_device(&d.member)).collect(),
    };
    PciNames::load(file, &Inventory::new(vec![all]))
}

impl PastReport {
    fn of(past: Past, pci_ids: Option<&Path>) -> Self {
        let names = names_of(&past.devices, pci_ids);
        let devices = past.devices.into_iter();
        let devices: Vec<DeviceHistoryReport> = devices
            .map(|device| DeviceHistoryReport::of(device, &names, past.from, past.to))
            .collect();
        Self {
            from: time(past.from),
            to: time(past.to),
            not_strict: devices.iter().filter(|device| device.not_strict).count(),
            devices,
            nameless: past.nameless,
        }
    }
}

/// Runs the command.
pub fn run(args: &ReportArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let proc = Proc::open(global.roots.proc_root.as_deref())?;
    let places = places(global);
    snapshot(&places)?;
    let boots = Boots::read(&places).map_err(unreadable)?;
    let now = clock::now();
    let to = args.period.until.map_or(now, |until| until.min(now));
    let window = Window {
        from: args
            .period
            .since
            .map(|since| since.min(to).as_millisecond()),
        to: to.as_millisecond(),
    };
    let mut history = History::new(window, &boots);
    let mut story = ChangeCorrelator::default();
    let mut each = |entry: Entry| history.take(&entry);
    read::events(&places, &mut Position::default(), |event| {
        story.tell(event, &mut each);
    })
    .map_err(unreadable)?;
    story.end(|event: &Event| event.is_at_work(&proc), &mut each);
    let report = PastReport::of(
        history.finish(&proc.boot_id()),
        global.roots.pci_ids.as_deref(),
    );
    match &args.html {
        None => output.report(&report, |w, r| render::write(w, r))?,
        Some(path) => {
            let page = html::page(&report);
            atomic_file::write_whole(path, page.as_bytes(), MODE)
                .map_err(|why| Failure::new(Exit::Failed, why))?;
            output.report(&report, |w, r| render::headline(w, r))?;
        }
    }
    Ok(Exit::Done)
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl metrics`: what monitoring may want to know, as numbers.

pub mod openmetrics;

use std::collections::BTreeMap;
use std::path::PathBuf;

use iommuctl_policy::{differences, DomainType, Inventory};

use self::openmetrics::{text, Family, Format, MetricKind};
use crate::audit::log::file::Places;
use crate::audit::log::head::Head;
use crate::audit::log::json_file::{Kept as _, StateError};
use crate::audit::log::last_verified::LastVerified;
use crate::commands::common::args::Global;
use crate::config::policy_files::{self, wrong};
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::{Module, Problems, TRIPPED};
use crate::sys::atomic_file;
use crate::sys::private_dir::{PrivateDir, PrivateDirError};
use crate::terminal::output::Output;

/// The text below the help of `metrics`.
pub const METRICS_HELP: &str = "\
What is root's alone to know (the audit log, and when it was verified) is only there for root.";

/// Arguments of `metrics`.
#[derive(Debug, clap::Args)]
pub struct MetricsArgs {
    /// Put them into this file instead, whole, for the textfile collector of the Prometheus node exporter
    #[arg(long, value_name = "FILE")]
    pub textfile: Option<PathBuf>,
}

/// The node exporter reads the file as a user of its own.
const MODE: u32 = 0o644;

/// Runs the command.
pub fn run(args: &MetricsArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(&global.roots)?;
    let mut problems = Problems::default();
    let version = env!("CARGO_PKG_VERSION");
    let build = Family::new(
        "iommuctl_build",
        MetricKind::Info,
        "The iommuctl that says this.",
    );
    let mut families = vec![build.with(&[("version", version)], 1)];
    let inventory = context.sysfs.inventory(&mut problems)?;
    families.push(groups(&inventory));
    families.extend(policy(global, &context, &inventory, &mut problems, output)?);
    families.extend(module(context.sysfs.module(&mut problems).as_ref()));
    match audit(&Places::new(global.roots.root.as_deref())) {
        Ok(audit) => families.extend(audit),
        // For everybody else it is as if there was none.
        Err(error) if nix::unistd::geteuid().is_root() => output.warn(&error.to_string()),
        Err(_) => {}
    }
    output.warn_all(problems.iter());
    match &args.textfile {
        None => output.raw(text(&families, Format::OpenMetrics).as_bytes())?,
        Some(path) => {
            let text = text(&families, Format::Prometheus);
            atomic_file::write_whole(path, text.as_bytes(), MODE)
                .map_err(|why| Failure::new(Exit::Failed, why))?;
        }
    }
    Ok(Exit::Done)
}

fn groups(inventory: &Inventory) -> Family {
    // These are there even if there are none, so that an alert on them has something to look at.
    let always = ["DMA", "DMA-FQ", "identity"];
    let mut by_type: BTreeMap<&str, u32> = always.into_iter().map(|name| (name, 0)).collect();
    for group in inventory.groups() {
        let name = group.domain_type.as_ref();
        let name = name.map_or("unreadable", DomainType::as_str);
        *by_type.entry(name).or_default() += 1;
    }
    let family = Family::new(
        "iommuctl_groups",
        MetricKind::Gauge,
        "IOMMU groups, by their type.",
    );
    by_type.iter().fold(family, |family, (name, n)| {
        family.with(&[("type", name)], n)
    })
}

/// How far the machine is from its policy; nothing if it has none.
fn policy(
    global: &Global,
    context: &Context,
    inventory: &Inventory,
    problems: &mut Problems,
    output: &mut Output,
) -> anyhow::Result<Vec<Family>> {
    let usable = Family::new(
        "iommuctl_policy_usable",
        MetricKind::Gauge,
        "Whether the policy can be used: 0 if a file of it is wrong, or others can write it.",
    );
    let loaded = match policy_files::load(&global.roots.open_root()?) {
        Ok(loaded) if loaded.files.is_empty() => return Ok(Vec::new()),
        Ok(loaded) => loaded,
        Err(errors) => {
            output.warn(&format!("{:#}", wrong(&errors)));
            return Ok(vec![usable.with(&[], 0)]);
        }
    };
    let inventory = inventory
        .clone()
        .with_devices(|device| context.sysfs.identify(device, problems));
    let differences = differences(&loaded.policy, &inventory);
    let forbidden = differences.iter().filter(|d| d.forbidden).count();
    let differing = Family::new(
        "iommuctl_policy_differing_groups",
        MetricKind::Gauge,
        "Groups that are not what the policy wants, by whether a safety rule forbids what it wants.",
    );
    Ok(vec![
        usable.with(&[], 1),
        differing
            .with(&[("forbidden", "false")], differences.len() - forbidden)
            .with(&[("forbidden", "true")], forbidden),
    ])
}

fn module(module: Option<&Module>) -> Vec<Family> {
    let loaded = Family::new(
        "iommuctl_module_loaded",
        MetricKind::Gauge,
        "Whether iommu_live is loaded.",
    );
    let mut families = vec![loaded.with(&[], u8::from(module.is_some()))];
    let Some(module) = module else {
        return families;
    };
    let mut events = Family::new(
        "iommuctl_module_events",
        MetricKind::Counter,
        "What iommu_live has counted since it was loaded, by the name of the counter.",
    );
    if let Some(tripped) = module.tripped() {
        let help = "Whether iommu_live has stopped switching until the next boot, since something it relies on was not so.";
        let family = Family::new("iommuctl_module_tripped", MetricKind::Gauge, help);
        families.push(family.with(&[], u8::from(tripped)));
    }
    if let Some(cleanups) = &module.cleanups {
        let help = "Groups that iommu_live is still cleaning up after a switch.";
        let family = Family::new("iommuctl_module_cleanups", MetricKind::Gauge, help);
        families.push(family.with(&[], cleanups.count()));
    }
    // It is no event, and has been said.
    let counters = module.counters.iter().filter(|(name, _)| *name != TRIPPED);
    for (name, value) in counters {
        match name.strip_suffix("_ns") {
            None => events = events.with(&[("event", name)], value),
            Some(time) if time.bytes().all(|b| b.is_ascii_lowercase() || b == b'_') => {
                let name = format!("iommuctl_module_{time}_seconds");
                let help = "A time that iommu_live has measured.";
                #[expect(clippy::cast_precision_loss, reason = "it is shorter than months")]
                let seconds = *value as f64 / 1e9;
                families.push(Family::new(name, MetricKind::Gauge, help).with(&[], seconds));
            }
            Some(_) => {}
        }
    }
    families.push(events);
    families
}

/// What is known of the audit log, for who may know.
fn audit(places: &Places) -> Result<Vec<Family>, StateError> {
    let folder = match PrivateDir::find(Some(&places.state())) {
        Ok(Some(folder)) => folder,
        Ok(None) => return Ok(Vec::new()),
        Err(error) => return Err(PrivateDirError::into(error)),
    };
    let mut families = Vec::new();
    if let Some(head) = Head::read(&folder)? {
        let records = Family::new(
            "iommuctl_audit_records",
            MetricKind::Counter,
            "Records of the audit log that were ever written.",
        );
        families.push(records.with(&[], head.tip.seq));
        let events = Family::new(
            "iommuctl_audit_events",
            MetricKind::Counter,
            "Changes and attempts in the audit log, by how they were learned of and how they ended.",
        );
        let split = |key: &str| {
            key.split_once(' ')
                .map(|(a, b)| (a.to_owned(), b.to_owned()))
        };
        let totals = head.totals.iter();
        let totals = totals.filter_map(|(key, n)| Some((split(key)?, n)));
        families.push(totals.fold(events, |events, ((learned, outcome), n)| {
            events.with(&[("learned", &learned), ("outcome", &outcome)], n)
        }));
    }
    if let Some(checked) = LastVerified::read(&folder)? {
        let intact = Family::new(
            "iommuctl_audit_verified_intact",
            MetricKind::Gauge,
            "Whether the audit log was as it was written when it was last verified.",
        );
        let records = Family::new(
            "iommuctl_audit_verified_records",
            MetricKind::Gauge,
            "How many records it had then.",
        );
        let time = Family::new(
            "iommuctl_audit_verified_timestamp_seconds",
            MetricKind::Gauge,
            "When it was last verified, in seconds since 1970.",
        );
        families.push(intact.with(&[], u8::from(checked.intact)));
        families.push(records.with(&[], checked.records));
        families.push(time.with(&[], checked.time.as_second()));
    }
    Ok(families)
}

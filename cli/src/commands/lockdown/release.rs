// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl release`: undoes a lockdown. Relaxes the groups that it made strict, and nothing else.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use iommuctl_policy::{DomainType, GroupId, Inventory, TypeRequest};

use super::LockdownReport;
use crate::audit::trail::Trail;
use crate::change::live::Switch;
use crate::change::route::Allowed;
use crate::commands::common::args::{seconds, Global, Wait};
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::recovery::begin;
use crate::state::lockdown::{Record, Store};
use crate::sys::private_dir::PrivateDir;
use crate::terminal::output::Output;

/// Arguments of `release`.
#[derive(Debug, clap::Args)]
pub struct ReleaseArgs {
    /// Say what would be relaxed, and do nothing
    #[arg(long)]
    pub dry_run: bool,
    /// How long to wait for the kernel, for each group; a switch that has begun cannot be cancelled
    #[arg(long, value_name = "SECONDS", default_value = "30", value_parser = seconds)]
    pub timeout: Duration,
    /// How long to wait for our turn.
    #[command(flatten)]
    pub wait: Wait,
}

/// Runs the command.
pub fn run(args: &ReleaseArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let context = Context::open(&global.roots)?;
    if args.dry_run {
        let report = survey(&context, args.timeout)?;
        super::say(&report, true, output)?;
        return Ok(report.exit());
    }
    let session = begin(&context, args.wait.lock_timeout, output)?;
    let store = Store::new(&session.run);
    let mut record = store.read()?;
    record.standing = false;
    store.write(&record)?;
    let holders = store.holders()?;
    let Some(report) = finish(&context, store, &session.trail, args.timeout, output)? else {
        let message = format!(
            "the lockdown goes on until what `lockdown --while` runs has ended (process {})",
            holders.join(", ")
        );
        return Err(Failure::new(Exit::Refused, message).into());
    };
    let exit = report.exit();
    super::say(&report, true, output)?;
    output.warn_all(session.trail.troubles());
    Ok(exit)
}

/// What would be relaxed if nobody held the lockdown any more. Nothing is.
fn survey(context: &Context, timeout: Duration) -> anyhow::Result<LockdownReport> {
    let record = match PrivateDir::find(context.run_root.as_deref())? {
        Some(run) => Store::new(&run).read()?,
        None => Record::default(),
    };
    let inventory = context.inventory(&mut Problems::default())?;
    let mut results = Vec::new();
    for (request, groups) in &batches(&record, &inventory) {
        let switch = Switch::new(context, *request, Allowed::Live, timeout);
        results.extend(switch.survey(groups, &inventory));
    }
    results.sort_by_key(|r| r.group);
    Ok(LockdownReport::new(true, inventory.groups().len(), results))
}

/// What is to be relaxed to what.
fn batches(record: &Record, inventory: &Inventory) -> BTreeMap<TypeRequest, BTreeSet<GroupId>> {
    let mut batches: BTreeMap<TypeRequest, BTreeSet<GroupId>> = BTreeMap::new();
    for remembered in &record.groups {
        let group = inventory.group(remembered.id());
        // Gone, another group by now, or changed by somebody else since: not ours to relax.
        let ours =
            group.is_some_and(|g| remembered.is_still(g) && g.domain_type == Some(DomainType::Dma));
        if let (true, Some(request)) = (ours, request(&remembered.domain_type())) {
            batches.entry(request).or_default().insert(remembered.id());
        }
    }
    batches
}

/// Relaxes what the record says if nobody holds the lockdown any more; `None` if somebody does.
pub fn finish(
    context: &Context,
    store: Store<'_>,
    trail: &Trail,
    timeout: Duration,
    output: &Output,
) -> anyhow::Result<Option<LockdownReport>> {
    let mut record = store.read()?;
    if record.standing || !store.holders()?.is_empty() {
        return Ok(None);
    }
    let inventory = context.inventory(&mut Problems::default())?;
    let mut results = Vec::new();
    for (request, groups) in &batches(&record, &inventory) {
        results.extend(super::switch(
            context, *request, groups, trail, timeout, output,
        ));
    }
    results.sort_by_key(|r| r.group);
    // What could not be relaxed is kept, for another try.
    let left = results.iter().filter(|r| !r.is_done());
    let left: BTreeSet<u32> = left.map(|r| r.group.0).collect();
    record.groups.retain(|g| left.contains(&g.group));
    if record == Record::default() {
        store.clear()?;
    } else {
        store.write(&record)?;
    }
    let groups = inventory.groups().len();
    Ok(Some(LockdownReport::new(false, groups, results)))
}

fn request(domain_type: &DomainType) -> Option<TypeRequest> {
    match domain_type {
        DomainType::DmaFq => Some(TypeRequest::DmaFq),
        DomainType::Identity => Some(TypeRequest::Identity),
        _ => None,
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy explain`: what the policy says about a device, which rules were tried, and which decided.

use iommuctl_policy::{
    explain, Device, DomainType, GroupId, Inventory, MemberWish, Step, Tried, TypeRequest,
};
use serde::Serialize;

use super::source::{look, Source};
use crate::change::policy::{Application, PolicyResult};
use crate::commands::common::args::Global;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::pci_ids::PciNames;
use crate::kernel::sysfs::Problems;
use crate::kernel::target::Target;
use crate::terminal::output::Output;

/// Arguments of `policy explain`.
#[derive(Debug, clap::Args)]
pub struct ExplainArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
    /// The device: its PCI address or name in sysfs, or anything set-mode takes for a target
    #[arg(value_name = "DEVICE")]
    pub device: String,
}

/// What `policy explain` found.
#[derive(Debug, Serialize)]
pub struct ExplainReport {
    pub device: String,
    /// Vendor and model of the device.
    pub description: Option<String>,
    pub group: GroupId,
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    /// What the policy wants the group to be; `None` if nothing.
    pub wanted: Option<TypeRequest>,
    pub tried: Vec<Tried>,
    pub members: Vec<MemberWish>,
    pub conflict: bool,
    pub step: Step,
    /// What `policy apply` would do about the group; `None` if the policy wants nothing of it.
    pub outlook: Option<PolicyResult>,
    /// How many rules the policy has.
    pub rules: usize,
}

/// Runs the command.
pub fn run(
    args: &ExplainArgs,
    global: &Global,
    context: &Context,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let policy = look(&args.source, global)?.policy;
    let mut problems = Problems::default();
    let inventory = context.inventory_for_policy(&mut problems)?;
    let (group, device) = find(&args.device, context, &inventory)?;
    let missing = || Failure::new(Exit::Failed, format!("nothing found for {}", args.device));
    let group = inventory.group(group).ok_or_else(missing)?;
    let explanation = explain(&policy, group, &device.name).ok_or_else(missing)?;
    let only = [group.id].into();
    let application = Application {
        context,
        policy: &policy,
        inventory: &inventory,
        only: Some(&only),
        turn: None,
        timeout: std::time::Duration::ZERO,
    };
    let report = ExplainReport {
        description: PciNames::full(&context.names(&inventory), device),
        device: explanation.device,
        group: group.id,
        domain_type: group.domain_type.clone(),
        wanted: explanation.decision.request,
        tried: explanation.tried,
        conflict: explanation.decision.is_conflict(),
        members: explanation.members,
        step: explanation.planned.step,
        outlook: application.run(|_, _, _| {}).pop(),
        rules: policy.rules.len(),
    };
    output.report(&report, |w, r| super::explain_text::write(w, r))?;
    output.warn_all(problems.iter());
    Ok(Exit::Done)
}

/// The device that is meant: by its name or address; or the one that speaks for the group a target stands for.
fn find<'a>(
    text: &str,
    context: &Context,
    inventory: &'a Inventory,
) -> anyhow::Result<(GroupId, &'a Device)> {
    let address = text.parse().ok();
    let is_meant = |d: &Device| d.name == text || (address.is_some() && d.address == address);
    for group in inventory.groups() {
        if let Some(device) = group.devices.iter().find(|d| is_meant(d)) {
            return Ok((group.id, device));
        }
    }
    if let Some(found) = behind(text, context, inventory)? {
        return Ok(found);
    }
    let target: Target = text
        .parse()
        .map_err(|e: crate::kernel::target::ParseTargetError| {
            Failure::new(Exit::Usage, e.to_string())
        })?;
    let groups = context.resolve(&[target], inventory)?;
    let mut groups = groups.into_iter().filter_map(|id| inventory.group(id));
    let (first, more) = (groups.next(), groups.next());
    if more.is_some() {
        let message = format!("{text} stands for several groups; name one device");
        return Err(Failure::new(Exit::Usage, message).into());
    }
    let group = first.filter(|g| !g.devices.is_empty());
    let Some(group) = group else {
        let message = format!("{text} stands for a group without devices: no rule can match it");
        return Err(Failure::new(Exit::Failed, message).into());
    };
    // The device with a driver is the one people mean, and not the bridge beside it.
    let speaks = group
        .devices
        .iter()
        .find(|d| d.does_dma() && d.driver.is_some());
    let speaks = speaks.or_else(|| group.devices.first());
    let device = speaks.ok_or_else(|| Failure::new(Exit::Failed, "the group has no devices"))?;
    Ok((group.id, device))
}

/// The device behind a network interface or a disk: the one in whose directory it is.
fn behind<'a>(
    text: &str,
    context: &Context,
    inventory: &'a Inventory,
) -> anyhow::Result<Option<(GroupId, &'a Device)>> {
    let (classes, name): (&[&str], &str) =
        match (text.strip_prefix("/dev/"), text.strip_prefix("net:")) {
            (Some(disk), _) => (&["block"], disk),
            (None, Some(interface)) => (&["net"], interface),
            (None, None) => (&["net", "block"], text),
        };
    if name.contains('/') {
        return Ok(None);
    }
    let links = classes.iter().map(|class| format!("class/{class}/{name}"));
    let found: Result<Vec<_>, _> = links.map(|l| context.sysfs.tree().link(&l)).collect();
    let mut found = found?.into_iter().flatten();
    // That two things have the name is said by whoever looks for its group.
    let (Some(path), None) = (found.next(), found.next()) else {
        return Ok(None);
    };
    for group in inventory.groups() {
        let above = |d: &&Device| path.starts_with(&format!("{}/", d.path));
        if let Some(device) = group.devices.iter().find(above) {
            return Ok(Some((group.id, device)));
        }
    }
    Ok(None)
}

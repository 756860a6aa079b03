// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy explain`: what the policy says about a device, which rules were tried, and which decided.

use std::io::{self, Write};

use iommuctl_policy::{
    explain, Device, DomainType, Goal, GroupId, Inventory, MemberWish, Route, Step, Trial, Tried,
    TypeRequest, Wish,
};
use serde::Serialize;

use super::source::{look, Source};
use crate::change::outcome::Outcome;
use crate::change::policy::{Application, PolicyResult};
use crate::commands::common::args::Global;
use crate::exit::{Exit, Failure};
use crate::kernel::machine::Context;
use crate::kernel::pci_ids::PciNames;
use crate::kernel::sysfs::Problems;
use crate::kernel::target::Target;
use crate::terminal::output::Output;
use crate::terminal::style;

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
        session: None,
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
    output.report(&report, |w, r| write(w, r))?;
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
    let found: Result<Vec<_>, _> = links.map(|l| context.sysfs.kernfs().link(&l)).collect();
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

/// Writes it.
pub fn write(w: &mut dyn Write, report: &ExplainReport) -> io::Result<()> {
    let head = style::HEADING;
    writeln!(w, "{head}{}{head:#}", answer(report))?;
    writeln!(w)?;
    tried(w, report)?;
    if report.members.len() > 1 {
        writeln!(w)?;
        members(w, report)?;
    }
    if let Some(text) = outlook(report) {
        writeln!(w)?;
        writeln!(w, "{text}")?;
    }
    Ok(())
}

/// What the group is to be, and because of whom, in one sentence.
fn answer(report: &ExplainReport) -> String {
    let (device, group) = (&report.device, report.group);
    let is = style::type_text(report.domain_type.as_ref());
    let Some(wanted) = report.wanted else {
        return format!(
            "{device} is in group {group}, which stays {is}: the policy wants nothing of it."
        );
    };
    let asked = report.members.iter().find(|m| m.device == *device);
    let others: Vec<&str> = report
        .members
        .iter()
        .filter(|m| m.decides && m.device != *device)
        .map(|m| m.device.as_str())
        .collect();
    let why = match asked {
        Some(member) if member.decides => match &member.rule {
            Some(rule) => format!("the rule \"{}\" says so", rule.name),
            None => "no rule matches it, and the defaults say so".to_owned(),
        },
        _ => format!("{} in the same group wants it", list(&others)),
    };
    format!("{device} is in group {group}, which is to be {wanted}: {why}.")
}

/// The rules, up to the one that decided.
fn tried(w: &mut dyn Write, report: &ExplainReport) -> io::Result<()> {
    let name = match &report.description {
        Some(description) => format!("{} ({description})", report.device),
        None => report.device.clone(),
    };
    match (report.rules, report.tried.is_empty()) {
        (0, _) => writeln!(w, "The policy has no rules.")?,
        (rules, _) => {
            let rules = if rules == 1 { "rule was" } else { "rules were" };
            writeln!(w, "For {name}, these {rules} tried in turn:")?;
        }
    }
    let mut decided = false;
    for (number, tried) in (1..).zip(&report.tried) {
        let verdict = match &tried.trial {
            Trial::Decided { goal } => {
                decided = true;
                format!("it matches, and {}", wants(*goal))
            }
            Trial::NoMatch(mismatch) => format!("no match: {mismatch}"),
            Trial::NotNamed => {
                "it would match, but the device does no DMA of its own, and the rule does not name it"
                    .to_owned()
            }
        };
        writeln!(
            w,
            "  {number}. \"{}\" ({}): {verdict}.",
            tried.rule.name, tried.rule.file
        )?;
    }
    let left = report.rules.saturating_sub(report.tried.len());
    if decided && left > 0 {
        let rest = match left {
            1 => "the one after it was not tried".to_owned(),
            left => format!("the {left} after it were not tried"),
        };
        writeln!(w, "  The first that matches decides; {rest}.")?;
    }
    if !decided && report.rules > 0 {
        writeln!(w, "  None of them decides for it.")?;
    }
    Ok(())
}

fn wants(goal: Goal) -> String {
    match goal {
        Goal::Keep => "wants it kept as it is".to_owned(),
        goal => format!("wants {goal}"),
    }
}

/// What each device of the group wants, and who wins.
fn members(w: &mut dyn Write, report: &ExplainReport) -> io::Result<()> {
    let agree = if report.conflict {
        "they do not agree"
    } else {
        "none of them is against it"
    };
    writeln!(
        w,
        "A type belongs to the whole group. Group {} has {} devices, and {agree}:",
        report.group,
        report.members.len()
    )?;
    for member in &report.members {
        let driver = member.driver.as_deref().unwrap_or("no driver");
        writeln!(w, "  {} ({driver}) {}.", member.device, wish(member))?;
    }
    if report.conflict {
        let winners = report.members.iter().filter(|m| m.decides);
        let winners: Vec<&str> = winners.map(|m| m.device.as_str()).collect();
        let others = report
            .members
            .iter()
            .filter(|m| !m.decides && m.wish.request().is_some());
        let others: Vec<&str> = others.map(|m| m.device.as_str()).collect();
        if let (Some(wanted), false) = (report.wanted, others.is_empty()) {
            writeln!(
                w,
                "The strictest wish counts, which is that of {}; {} {} {wanted} with it.",
                list(&winners),
                list(&others),
                if others.len() == 1 {
                    "becomes"
                } else {
                    "become"
                }
            )?;
        }
    }
    Ok(())
}

fn wish(member: &MemberWish) -> String {
    let reason = match &member.reason {
        Some(reason) => format!(" (\"{reason}\")"),
        None => String::new(),
    };
    match (&member.wish, &member.rule) {
        (Wish::Rule { goal, .. }, Some(rule)) => {
            format!("{}, by the rule \"{}\"{reason}", wants(*goal), rule.name)
        }
        (Wish::Rule { goal, .. }, None) => wants(*goal),
        (Wish::Unmatched { goal: Goal::Keep }, _) => {
            "is matched by no rule, and has no wish".to_owned()
        }
        (Wish::Unmatched { goal }, _) => {
            format!("is matched by no rule, and the defaults want {goal}")
        }
        (Wish::NotAsked, _) => {
            "is not asked: it does no DMA of its own, and no rule names it".to_owned()
        }
    }
}

/// What `policy apply` would do now.
fn outlook(report: &ExplainReport) -> Option<String> {
    let is = style::type_text(report.domain_type.as_ref());
    let outlook = report.outlook.as_ref()?;
    let result = &outlook.result;
    let message = result.message.as_deref().unwrap_or_default();
    Some(match (&report.step, result.outcome) {
        (Step::Satisfied { request }, _) => format!("It is {request} already."),
        (Step::Hold { .. }, _) => format!("It is {is}, and stays so: {message}."),
        (_, Outcome::Planned) => {
            let route = result.route.map(|r| r.to_string()).unwrap_or_default();
            let interrupts = match result.route {
                Some(Route::Rebind) => ", and its devices are gone for a moment",
                _ => "",
            };
            format!(
                "It is {is} now. `iommuctl policy apply` would make it {} by the {route} route: {message}{interrupts}.",
                outlook.wanted
            )
        }
        _ => {
            let mut text = format!(
                "It is {is} now, and `iommuctl policy apply` would not make it {}: {message}.",
                outlook.wanted
            );
            for line in &result.advice {
                text.push_str(&format!("\n  - {line}"));
            }
            text
        }
    })
}

/// "a", "a and b", "a, b and c".
fn list(names: &[&str]) -> String {
    match names {
        [] => "nobody".to_owned(),
        [one] => (*one).to_owned(),
        [first @ .., end] => format!("{} and {end}", first.join(", ")),
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl policy diff`: where the machine differs from the policy. For monitoring: it changes nothing, asks no route,
//! and ends with 4 if there is a difference, or no policy.

use std::io::{self, Write};

use iommuctl_policy::{
    evaluate, plan, DomainType, GroupId, Inventory, Policy, RuleName, Step, TypeRequest,
};
use serde::Serialize;

use super::source::{look, no_policy, rules, Source};
use crate::commands::common::args::Global;
use crate::config::policy_files::FileReport;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::terminal::output::Output;
use crate::terminal::style;
use crate::terminal::table::Table;

/// Arguments of `policy diff`.
#[derive(Debug, clap::Args)]
pub struct DiffArgs {
    /// Which policy.
    #[command(flatten)]
    pub source: Source,
}

/// What `policy diff` found.
#[derive(Debug, Serialize)]
pub struct DiffReport {
    pub files: Vec<FileReport>,
    pub differences: Vec<Difference>,
    pub exit_code: u8,
}

/// A group that is not what the policy wants.
#[derive(Debug, Serialize)]
pub struct Difference {
    pub group: GroupId,
    pub devices: Vec<String>,
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    pub wanted: TypeRequest,
    /// Whether a safety rule is against it, so that the policy is at fault and not the machine.
    pub forbidden: bool,
    /// The rules that decided; empty if the defaults did.
    pub rules: Vec<RuleName>,
}

/// Runs the command.
pub fn run(
    args: &DiffArgs,
    global: &Global,
    context: &Context,
    output: &mut Output,
) -> anyhow::Result<Exit> {
    let loaded = look(&args.source, global)?;
    let policy = loaded.policy;
    let mut problems = Problems::default();
    let inventory = context.inventory_for_policy(&mut problems)?;
    let differences = differences(&policy, &inventory);
    // A policy that has gone missing is not one that is met.
    let exit = if differences.is_empty() && !loaded.files.is_empty() {
        Exit::Done
    } else {
        Exit::Partly
    };
    let report = DiffReport {
        files: loaded.files,
        differences,
        exit_code: exit.code(),
    };
    output.report(&report, write)?;
    output.warn_all(problems.iter());
    Ok(exit)
}

/// The groups of the machine that are not what the policy wants.
pub fn differences(policy: &Policy, inventory: &Inventory) -> Vec<Difference> {
    let decisions = evaluate(policy, inventory);
    let mut differences = Vec::new();
    for (decision, planned) in decisions.iter().zip(plan(&decisions, inventory)) {
        let (wanted, forbidden) = match planned.step {
            Step::Change { request, .. } => (request, false),
            Step::Forbidden { request, .. } => (request, true),
            Step::Leave | Step::Satisfied { .. } | Step::Hold { .. } => continue,
        };
        let rules = decision.deciders().filter_map(|v| v.wish.rule());
        differences.push(Difference {
            group: decision.group,
            devices: decision.votes.iter().map(|v| v.device.clone()).collect(),
            domain_type: planned.current,
            wanted,
            forbidden,
            rules: rules
                .filter_map(|index| RuleName::of(policy, index))
                .collect(),
        });
    }
    differences
}

/// Writes it.
pub fn write(w: &mut dyn Write, report: &DiffReport) -> io::Result<()> {
    if report.files.is_empty() {
        return no_policy(w);
    }
    if report.differences.is_empty() {
        return writeln!(w, "Every group is as the policy wants.");
    }
    let mut table = Table::new(["GROUP", "IS", "WANTED", "RULE", "DEVICES"]);
    for difference in &report.differences {
        let is = difference.domain_type.as_ref();
        let wanted = difference.wanted.result();
        let text = match difference.forbidden {
            true => format!("{} (against a safety rule)", difference.wanted),
            false => difference.wanted.to_string(),
        };
        table.row([
            (difference.group.to_string(), style::PLAIN),
            (style::type_text(is).to_owned(), style::of_type(is)),
            (text, style::of_type(wanted.as_ref())),
            (rules(&difference.rules), style::PLAIN),
            (difference.devices.join(", "), style::PLAIN),
        ]);
    }
    table.write(w)
}

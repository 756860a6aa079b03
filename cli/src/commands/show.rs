// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl show`: everything about one or more groups, and what could be changed about them.

use iommuctl_policy::{Group, ReservedRegion, Route, TypeRequest};
use serde::Serialize;

use super::common::group_report::GroupReport;
use crate::change::route::{self, Allowed, Decision};
use crate::cli::ShowArgs;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::render;
use crate::terminal::output::Output;

/// What `show` found.
#[derive(Debug, Serialize)]
pub struct ShowReport {
    pub module_loaded: bool,
    pub groups: Vec<ShowGroup>,
}

/// A group with everything about it.
#[derive(Debug, Serialize)]
pub struct ShowGroup {
    #[serde(flatten)]
    pub group: GroupReport,
    pub reserved_regions: Vec<ReservedRegion>,
    pub changes: Vec<Change>,
}

/// What would come of asking for a type.
#[derive(Debug, Serialize)]
pub struct Change {
    /// The type.
    pub request: TypeRequest,
    /// Whether it would be done now.
    pub possible: bool,
    /// The route it takes; `None` if it would not be done.
    pub route: Option<Route>,
    /// The route it would need, if it would not be done and there is one.
    pub needs: Option<Route>,
    /// Why it takes this route, or why it would not be done.
    pub why: String,
    /// What would work instead, one line each.
    pub advice: Vec<String>,
}

/// Runs the command.
pub fn run(args: &ShowArgs, context: &Context, output: &mut Output) -> anyhow::Result<Exit> {
    let mut problems = Problems::default();
    let inventory = context.inventory(&mut problems)?;
    let wanted = context.resolve(&args.targets, &inventory)?;
    let names = context.names(&inventory);
    let module_loaded = context.sysfs.has_module();
    let groups = wanted.iter().filter_map(|id| inventory.group(*id));
    let groups = groups.map(|group| ShowGroup {
        group: GroupReport::new(group, &names),
        reserved_regions: context.sysfs.reserved_regions(group.id, &mut problems),
        changes: changes(group, module_loaded),
    });
    let report = ShowReport {
        module_loaded,
        groups: groups.collect(),
    };
    output.report(&report, |w, r| render::show::write(w, r))?;
    output.problems(&problems);
    Ok(Exit::Done)
}

fn changes(group: &Group, module_loaded: bool) -> Vec<Change> {
    let change = |request| match route::decide(group, request, module_loaded, Allowed::Live) {
        Decision::Go { route, why } => Change {
            request,
            possible: true,
            route: Some(route),
            needs: None,
            why: why.to_owned(),
            advice: Vec::new(),
        },
        Decision::Refuse(refusal) => Change {
            request,
            possible: false,
            route: None,
            needs: refusal.needs,
            why: refusal.reason,
            advice: refusal.advice,
        },
    };
    TypeRequest::ALL.into_iter().map(change).collect()
}

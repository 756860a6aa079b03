// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl status`: the IOMMU, the kernel's defaults, the module, and how many groups there are of each type.
//!
//! A machine without an IOMMU has a status, too: that is not a failure here.

use std::collections::BTreeMap;

use iommuctl_policy::{DomainType, GroupId};
use nix::errno::Errno;
use serde::Serialize;

use super::recover::Interrupted;
use crate::change::rebind;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::{Iommu, Module, Problems};
use crate::state::lockdown::InForce;
use crate::state::unfinished;
use crate::sys::private_dir::OwnDir;
use crate::terminal::output::Output;
use crate::{bench, render};

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
    pub interrupted: Vec<Left>,
    /// What turns an IOMMU on; empty if there is one.
    pub advice: Vec<String>,
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
pub struct Left {
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
    let lockdown = context.lockdown().unwrap_or_else(|error| {
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
    };
    output.report(&report, |w, r| render::status::write(w, r))?;
    output.problems(&problems);
    Ok(Exit::Done)
}

/// What was interrupted. While somebody is at work, what is there may be theirs, and is nothing to be told of.
fn interrupted(context: &Context, output: &mut Output) -> Vec<Left> {
    match unfinished::Left::look(context.run_root.as_deref()) {
        Ok((left, Some(run))) if !left.busy => {
            let rebinds = left.rebinds.iter().map(|id| rebind(context, &run, *id));
            let benches = left.benches.iter().map(|id| bench(context, &run, *id));
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

fn rebind(context: &Context, run: &OwnDir, group: GroupId) -> Left {
    let found = rebind::journal::read(run, group).ok().flatten();
    let plan = found.and_then(|found| found.plan);
    left(
        context,
        group,
        Interrupted::Rebind,
        plan.map(|p| p.old_type),
    )
}

fn bench(context: &Context, run: &OwnDir, group: GroupId) -> Left {
    let found = bench::guard::journal::read(run, group).ok().flatten();
    let original = found.map(|journal| journal.original.to_string());
    left(context, group, Interrupted::Bench, original)
}

/// What cannot be read of a journal is for `recover` to say.
fn left(
    context: &Context,
    group: GroupId,
    interrupted: Interrupted,
    old_type: Option<String>,
) -> Left {
    Left {
        group,
        interrupted,
        old_type,
        domain_type: context.sysfs.domain_type(group).ok().flatten(),
    }
}

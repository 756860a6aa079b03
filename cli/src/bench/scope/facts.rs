// SPDX-License-Identifier: GPL-2.0-only
//! Collects the facts that [`scope`](super::rules) decides on.

use iommuctl_policy::{evaluate_group, DomainType, Group, RuleName, TypeRequest};

use super::rules::{Facts, Lockdown, Policy};
use crate::config::policy_files;
use crate::kernel::machine::Context;
use crate::state::lockdown::in_force;
use crate::sys::trusted::Root;

/// The facts about `group`. With `against_policy`, the policy is not read.
#[must_use]
pub fn gather<'a>(context: &Context, group: &'a Group, against_policy: bool) -> Facts<'a> {
    Facts {
        group,
        module: context.sysfs.has_module(),
        covered: context.sysfs.is_covered(group),
        lockdown: match in_force(context.run_root.as_deref()) {
            Ok(None) => Lockdown::None,
            Ok(Some(_)) => Lockdown::InForce,
            Err(error) => Lockdown::Unknown(error.to_string()),
        },
        policy: match against_policy {
            true => Policy::Permits,
            false => policy(context, group),
        },
    }
}

/// Whether the policy of the system permits the group to be lazy.
fn policy(context: &Context, group: &Group) -> Policy {
    let loaded = match Root::open(context.root.as_deref()) {
        Ok(root) => policy_files::load(&root),
        Err(error) => return Policy::Unknown(error.to_string()),
    };
    let loaded = match loaded {
        Ok(loaded) => loaded,
        Err(errors) => {
            let first = errors.first().map(ToString::to_string);
            return Policy::Unknown(first.unwrap_or_default());
        }
    };
    let decision = evaluate_group(&loaded.policy, group);
    let strict = decision.request == Some(TypeRequest::Dma);
    let kept = decision.never_laxer && group.domain_type == Some(DomainType::Dma);
    if !strict && !kept {
        return Policy::Permits;
    }
    let rules = decision.votes.iter().filter_map(|vote| vote.wish.rule());
    let mut names: Vec<String> = rules
        .filter_map(|index| RuleName::of(&loaded.policy, index))
        .map(|rule| rule.name)
        .collect();
    names.dedup();
    Policy::Strict(names)
}

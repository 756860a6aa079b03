// SPDX-License-Identifier: GPL-2.0-only
//! Where a machine differs from its policy.

use serde::Serialize;

use crate::{evaluate, plan, DomainType, GroupId, Inventory, Policy, RuleName, Step, TypeRequest};

/// A group that is not what the policy wants.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// Its number.
    pub group: GroupId,
    /// The devices that have a say.
    pub devices: Vec<String>,
    /// The type it has; `None` if it cannot be read.
    #[serde(rename = "type")]
    pub domain_type: Option<DomainType>,
    /// What the policy wants.
    pub wanted: TypeRequest,
    /// Whether a safety rule is against it, so that the policy is at fault and not the machine.
    pub forbidden: bool,
    /// The rules that decided; empty if the defaults did.
    pub rules: Vec<RuleName>,
}

/// The groups of `inventory` that are not what the policy wants.
#[must_use]
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

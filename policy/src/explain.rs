// SPDX-License-Identifier: GPL-2.0-only
//! Why a device's group is to have what a policy says: which rules were tried, which decided, and who else had a say.

use serde::Serialize;

use crate::evaluate::applies;
use crate::{
    evaluate_group, plan, Decision, Device, Goal, Group, Inventory, Mismatch, Planned, Policy, Wish,
};

/// A rule, as it is named to people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RuleName {
    /// What it is called.
    pub name: String,
    /// The file it is in.
    pub file: String,
}

impl RuleName {
    /// The rule with this index in `policy`.
    #[must_use]
    pub fn of(policy: &Policy, index: usize) -> Option<Self> {
        policy.rules.get(index).map(|r| Self {
            name: r.rule.name.clone(),
            file: r.file.clone(),
        })
    }
}

/// What became of one rule.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "result")]
pub enum Trial {
    /// It decided.
    Decided {
        /// What it wants.
        goal: Goal,
    },
    /// A key does not hold.
    NoMatch(Mismatch),
    /// It matches, but the device does no DMA of its own, and the rule does not name it.
    NotNamed,
}

/// A rule that was tried on the device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tried {
    /// The rule.
    pub rule: RuleName,
    /// What became of it.
    #[serde(flatten)]
    pub trial: Trial,
}

/// One device of the group, and what it wants.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct MemberWish {
    /// The device.
    pub device: String,
    /// The driver bound to it.
    pub driver: Option<String>,
    /// What the policy says about it.
    #[serde(flatten)]
    pub wish: Wish,
    /// The rule behind it.
    pub rule: Option<RuleName>,
    /// The reason written in that rule.
    pub reason: Option<String>,
    /// Whether this is what the group is to have.
    pub decides: bool,
}

/// Everything there is to say about one device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Explanation {
    /// The device that was asked about.
    pub device: String,
    /// The rules, up to the one that decided for it.
    pub tried: Vec<Tried>,
    /// The devices of its group.
    pub members: Vec<MemberWish>,
    /// What the policy wants of its group.
    pub decision: Decision,
    /// What is to be done about it.
    pub planned: Planned,
}

/// Explains what `policy` says about `device` in `group`; `None` if it is not in there.
#[must_use]
pub fn explain(policy: &Policy, group: &Group, device: &str) -> Option<Explanation> {
    let asked = group.devices.iter().find(|d| d.name == device)?;
    let decision = evaluate_group(policy, group);
    let state = Inventory::new(vec![group.clone()]);
    let planned = plan(std::slice::from_ref(&decision), &state).pop()?;
    let members = group.devices.iter().zip(&decision.votes);
    let members = members.map(|(device, vote)| MemberWish {
        device: device.name.clone(),
        driver: device.driver.clone(),
        rule: vote.wish.rule().and_then(|i| RuleName::of(policy, i)),
        reason: vote
            .wish
            .rule()
            .and_then(|i| policy.rules.get(i)?.rule.reason.clone()),
        decides: vote.wish.request().is_some() && vote.wish.request() == decision.request,
        wish: vote.wish.clone(),
    });
    Some(Explanation {
        device: asked.name.clone(),
        tried: tried(policy, asked),
        members: members.collect(),
        planned,
        decision,
    })
}

fn tried(policy: &Policy, device: &Device) -> Vec<Tried> {
    let mut all = Vec::new();
    for (index, sourced) in policy.rules.iter().enumerate() {
        let trial = if applies(policy, index, device) {
            Trial::Decided {
                goal: sourced.rule.goal,
            }
        } else {
            let mismatch = sourced.rule.matches.mismatch(device);
            mismatch.map_or(Trial::NotNamed, Trial::NoMatch)
        };
        let decided = matches!(trial, Trial::Decided { .. });
        all.push(Tried {
            rule: RuleName {
                name: sourced.rule.name.clone(),
                file: sourced.file.clone(),
            },
            trial,
        });
        if decided {
            break;
        }
    }
    all
}

// SPDX-License-Identifier: GPL-2.0-only
//! What a policy wants of each group.
//!
//! The first rule that matches a device decides for it, and a group takes the strictest wish of its devices. Bridges and
//! other devices that do no DMA of their own are not asked, unless a rule names them. The work is the number of devices
//! times the number of rules, and nothing else.

use serde::Serialize;

use crate::{
    Device, Goal, Group, GroupId, Inventory, OnFailure, Policy, RouteLimit, Strictness, TypeRequest,
};

/// What a policy says about one device.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case", tag = "by")]
pub enum Wish {
    /// A rule matched.
    Rule {
        /// Its place in the policy, from 0.
        #[serde(skip)]
        index: usize,
        /// What it wants.
        goal: Goal,
    },
    /// No rule matched, and the defaults say what becomes of such a device.
    Unmatched {
        /// What they want.
        goal: Goal,
    },
    /// It does no DMA of its own, and no rule names it.
    NotAsked,
}

impl Wish {
    /// The type it is for; `None` if it is for none.
    #[must_use]
    pub fn request(&self) -> Option<TypeRequest> {
        match self {
            Self::Rule { goal, .. } | Self::Unmatched { goal } => goal.request(),
            Self::NotAsked => None,
        }
    }

    /// The rule behind it.
    #[must_use]
    pub fn rule(&self) -> Option<usize> {
        match self {
            Self::Rule { index, .. } => Some(*index),
            Self::Unmatched { .. } | Self::NotAsked => None,
        }
    }
}

/// A device and what the policy says about it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Vote {
    /// The name of the device.
    pub device: String,
    /// What the policy says.
    pub wish: Wish,
}

/// What a policy wants of one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// The group.
    pub group: GroupId,
    /// What it is to have; `None` to leave it as it is.
    pub request: Option<TypeRequest>,
    /// What the policy says about each of its devices, in their order.
    pub votes: Vec<Vote>,
    /// Whether a rule wants it kept as it is, so that it must not become laxer.
    pub never_laxer: bool,
    /// The most disruptive route on which every rule that speaks for one of its devices agrees.
    pub route: RouteLimit,
    /// What it means if it does not get what it is to have.
    pub on_failure: OnFailure,
    /// The external devices that are in the way of relaxing it: those whose rule has no `force`, and those without a rule.
    pub unforced: Vec<String>,
}

impl Decision {
    /// The votes that decided: those for the type the group is to have.
    pub fn deciders(&self) -> impl Iterator<Item = &Vote> {
        let wanted = self.request;
        let decided = move |v: &&Vote| wanted.is_some() && v.wish.request() == wanted;
        self.votes.iter().filter(decided)
    }

    /// Whether its devices want different things.
    #[must_use]
    pub fn is_conflict(&self) -> bool {
        let mut wishes = self.votes.iter().filter_map(|v| match v.wish {
            Wish::Rule { goal, .. } => Some(goal),
            Wish::Unmatched { goal } => Some(goal).filter(|g| *g != Goal::Keep),
            Wish::NotAsked => None,
        });
        let first = wishes.next();
        wishes.any(|wish| Some(wish) != first)
    }
}

/// Whether rule number `index` is about `device`: it matches, and names it if it does no DMA of its own.
pub(crate) fn applies(policy: &Policy, index: usize, device: &Device) -> bool {
    policy.rules.get(index).is_some_and(|rule| {
        let matches = &rule.rule.matches;
        matches.matches(device) && (device.does_dma() || matches.names_bridges())
    })
}

fn wish(policy: &Policy, device: &Device) -> Wish {
    let found = (0..policy.rules.len()).find(|index| applies(policy, *index, device));
    let rule = found.and_then(|index| Some((index, policy.rules.get(index)?)));
    match rule {
        Some((index, rule)) => Wish::Rule {
            index,
            goal: rule.rule.goal,
        },
        None if !device.does_dma() => Wish::NotAsked,
        None => Wish::Unmatched {
            goal: policy.unmatched.goal(),
        },
    }
}

/// What `policy` wants of every group of `inventory`, by group number.
#[must_use]
pub fn evaluate(policy: &Policy, inventory: &Inventory) -> Vec<Decision> {
    let groups = inventory.groups().iter();
    groups.map(|group| evaluate_group(policy, group)).collect()
}

/// What `policy` wants of `group`.
#[must_use]
pub fn evaluate_group(policy: &Policy, group: &Group) -> Decision {
    let vote = |device: &Device| Vote {
        device: device.name.clone(),
        wish: wish(policy, device),
    };
    let votes: Vec<Vote> = group.devices.iter().map(vote).collect();
    let request = votes
        .iter()
        .filter_map(|v| v.wish.request())
        .max_by_key(|request| Strictness::of_request(*request));
    let rules = || votes.iter().filter_map(|v| v.wish.rule());
    let rule = |index: usize| policy.rules.get(index).map(|r| &r.rule);
    let winners = votes.iter().filter(|v| v.wish.request() == request);
    let failures = winners.filter_map(|v| v.wish.rule()).filter_map(rule);
    Decision {
        group: group.id,
        request,
        never_laxer: rules().filter_map(rule).any(|r| r.goal == Goal::Keep),
        route: rules()
            .map(|index| policy.route_of(index))
            .min()
            .unwrap_or(policy.route),
        on_failure: failures.map(|r| r.on_failure).max().unwrap_or_default(),
        unforced: unforced(policy, group, &votes),
        votes,
    }
}

/// The external devices of `group` that no rule with `force` covers: their rule has no `force`, or they have no rule. A device
/// that is not asked, such as the bridge of a docking station, counts as the external devices behind it do.
fn unforced(policy: &Policy, group: &Group, votes: &[Vote]) -> Vec<String> {
    let is_forced = |vote: &Vote| {
        let rule = vote.wish.rule().and_then(|index| policy.rules.get(index));
        rule.is_some_and(|r| r.rule.force)
    };
    let external = || {
        let pairs = group.devices.iter().zip(votes);
        pairs.filter(|(device, _)| device.is_external())
    };
    let any_forced = external().any(|(_, vote)| is_forced(vote));
    external()
        .filter(|(_, vote)| !is_forced(vote))
        .filter(|(_, vote)| !(any_forced && vote.wish == Wish::NotAsked))
        .map(|(device, _)| device.name.clone())
        .collect()
}

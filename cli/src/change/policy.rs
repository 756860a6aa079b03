// SPDX-License-Identifier: GPL-2.0-only
//! Applies a policy to a machine, or finds out which changes it requires.
//!
//! All live changes, to strict, to lazy and so on, are made in one batch at the same time, since concurrent tightens share
//! their grace periods. Where a rule allows a rebind and there is no other route, the rebinds follow, one group at a time. Each
//! group has one type and gets it in one write, so it is changed completely or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use iommuctl_policy::{
    evaluate, plan, Decision, Group, GroupId, Inventory, OnFailure, Planned, Policy, Route,
    RouteLimit, RuleName, Step, TypeRequest,
};
use serde::Serialize;

use super::live::Switch;
use super::outcome::{exit_by, GroupResult, Outcome};
use super::rebind::kill_point::KillPoint;
use super::rebind_queue;
use super::route::Allowed;
use super::session::Session;
use crate::audit::trail::Trail;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::state::lockdown::in_force;
use crate::state::lockdown::{self, is_laxer};

/// The message for a rebind that a rule allows and a check refuses: a rule cannot override checks.
const IN_USE: &str = "a policy interrupts nothing that is in use, whatever its rules say; `iommuctl set-mode --route \
                      rebind` has a flag for each reason";

/// The result of a policy for one group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyResult {
    /// The result of the change.
    #[serde(flatten)]
    pub result: GroupResult,
    /// The type that the policy requires.
    pub wanted: TypeRequest,
    /// The rules that decided; empty if the defaults did.
    pub rules: Vec<RuleName>,
    /// Whether the devices of the group require different types, so that the strictest one decided.
    pub conflict: bool,
    /// How it counts if the group did not get the type.
    pub on_failure: OnFailure,
}

impl PolicyResult {
    /// Whether the group does not have the type that the policy requires, and a rule says that this is a failure.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.is_unmet() && self.on_failure == OnFailure::Fail
    }

    /// Whether the group could not get the type that the policy requires.
    #[must_use]
    pub fn is_unmet(&self) -> bool {
        !self.result.is_done()
    }
}

/// A policy to apply to a machine.
#[derive(Debug)]
pub struct Application<'a> {
    /// The machine.
    pub context: &'a Context,
    /// The policy.
    pub policy: &'a Policy,
    /// The groups, as they are now.
    pub inventory: &'a Inventory,
    /// Only these groups; `None` for all.
    pub only: Option<&'a BTreeSet<GroupId>>,
    /// The session in which groups are changed; without one, only the required changes are found out.
    pub session: Option<&'a Session>,
    /// How long to wait for each write.
    pub timeout: Duration,
}

/// The parameters that groups in one batch have in common.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Batch {
    request: TypeRequest,
    route: RouteLimit,
    force: bool,
}

impl Application<'_> {
    /// Applies the policy, or finds out the required changes. Returns one result for each group the policy has a requirement
    /// for, by group number. `tick` is called about ten times a second with the number of groups that are done, the number to
    /// change, and the current activity.
    pub fn run(&self, tick: impl FnMut(usize, usize, &str) + Send) -> Vec<PolicyResult> {
        let decisions = evaluate(self.policy, self.inventory);
        let steps = plan(&decisions, self.inventory);
        let wanted = |id: &GroupId| self.only.is_none_or(|only| only.contains(id));
        let mut batches: BTreeMap<Batch, BTreeSet<GroupId>> = BTreeMap::new();
        let lockdown = self.is_locked_down();
        let mut results = Vec::new();
        for (decision, planned) in decisions.iter().zip(&steps) {
            let (Some(group), true) = (self.inventory.group(planned.group), wanted(&planned.group))
            else {
                continue;
            };
            if let Some(session) = self.session {
                let rules = self.rules(decision).into_iter();
                session
                    .trail
                    .because(group.id, rules.map(|r| r.name).collect());
            }
            match &planned.step {
                Step::Leave => {}
                Step::Change { request, .. }
                    if lockdown && is_laxer(group.domain_type.as_ref(), *request) =>
                {
                    let result = locked_down(group);
                    self.note(&result, *request);
                    results.push(self.describe(decision, *request, result));
                }
                Step::Change { request, force } => {
                    let batch = Batch {
                        request: *request,
                        route: decision.route,
                        force: *force,
                    };
                    batches.entry(batch).or_default().insert(group.id);
                }
                Step::Satisfied { request }
                | Step::Hold { request }
                | Step::Forbidden { request, .. } => {
                    let result = settled(group, planned);
                    self.note(&result, *request);
                    results.push(self.describe(decision, *request, result));
                }
            }
        }
        let by_group: BTreeMap<GroupId, &Decision> =
            decisions.iter().map(|d| (d.group, d)).collect();
        for (request, result) in self.switch(&batches, tick) {
            if let Some(decision) = by_group.get(&result.group) {
                results.push(self.describe(decision, request, result));
            }
        }
        results.sort_by_key(|r| r.result.group);
        results
    }

    /// Records that a group is refused what the policy requires.
    fn note(&self, result: &GroupResult, request: TypeRequest) {
        if let (Some(session), Outcome::Refused) = (self.session, result.outcome) {
            let ending = result.ending(request);
            session
                .trail
                .note(&self.context.sysfs, result.group, ending);
        }
    }

    /// Whether a lockdown is in force. If that cannot be read, a command that changes groups assumes one, and a command that
    /// only reports, which may lack the permission, assumes none.
    fn is_locked_down(&self) -> bool {
        let lockdown = in_force(self.context.run_root.as_deref());
        lockdown.map_or(self.session.is_some(), |lockdown| lockdown.is_some())
    }

    /// Makes all live changes at the same time, and then one rebind after the other. Returns each group's result with the
    /// requested type.
    fn switch(
        &self,
        batches: &BTreeMap<Batch, BTreeSet<GroupId>>,
        mut tick: impl FnMut(usize, usize, &str) + Send,
    ) -> Vec<(TypeRequest, GroupResult)> {
        let switch = |batch: &Batch| Switch {
            force: batch.force,
            ..Switch::new(
                self.context,
                batch.request,
                Allowed::of_policy(batch.route),
                self.timeout,
            )
        };
        let switches: Vec<Switch<'_>> = batches.keys().map(switch).collect();
        let work: Vec<(&Switch<'_>, &BTreeSet<GroupId>)> =
            switches.iter().zip(batches.values()).collect();
        let mut results = match self.session {
            Some(session) => live(&work, &session.trail, &mut tick),
            None => survey(&work, self.inventory),
        };
        results.sort_by_key(|(_, result)| result.group);
        if let Some(session) = self.session {
            let total = results.len();
            let pairs = results.iter_mut().map(|(switch, result)| (*switch, result));
            let tick = |done: usize, doing: &str| tick(done, total, doing);
            rebind_queue::run(pairs, session, &mut KillPoint::default(), tick);
        }
        results
            .into_iter()
            .map(|(switch, result)| (switch.request, result))
            .collect()
    }

    /// The rules that decided, in their order.
    fn rules(&self, decision: &Decision) -> Vec<RuleName> {
        let mut indexes: Vec<usize> = decision.deciders().filter_map(|v| v.wish.rule()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        let names = indexes.into_iter();
        names
            .filter_map(|index| RuleName::of(self.policy, index))
            .collect()
    }

    fn describe(
        &self,
        decision: &Decision,
        wanted: TypeRequest,
        mut result: GroupResult,
    ) -> PolicyResult {
        if decision.route == RouteLimit::Boot && result.needs == Some(Route::Rebind) {
            result.needs = Some(Route::Boot);
        }
        if !result.findings.is_empty() {
            result.advice.push(IN_USE.to_owned());
        }
        PolicyResult {
            result,
            wanted,
            rules: self.rules(decision),
            conflict: decision.is_conflict(),
            on_failure: decision.on_failure,
        }
    }
}

/// A switch, and its result for one group.
type Done<'a> = (&'a Switch<'a>, GroupResult);

/// Decides about all groups, without changing anything.
fn survey<'a>(
    work: &[(&'a Switch<'a>, &BTreeSet<GroupId>)],
    inventory: &Inventory,
) -> Vec<Done<'a>> {
    let survey = |(switch, groups): &(&'a Switch<'a>, &BTreeSet<GroupId>)| {
        let switch = *switch;
        let results = switch.survey(groups, inventory).into_iter();
        results.map(move |result| (switch, result))
    };
    work.iter().flat_map(survey).collect()
}

/// Makes all live changes at the same time.
fn live<'a>(
    work: &[(&'a Switch<'a>, &BTreeSet<GroupId>)],
    trail: &Trail,
    tick: &mut (impl FnMut(usize, usize, &str) + Send),
) -> Vec<Done<'a>> {
    let total = work.iter().map(|(_, groups)| groups.len()).sum();
    let tick = Mutex::new(tick);
    let done: Vec<AtomicUsize> = work.iter().map(|_| AtomicUsize::new(0)).collect();
    let report = |mine: &AtomicUsize, count: usize| {
        mine.store(count, Ordering::Relaxed);
        // Skip the report if another thread is just making one: it counts for all of them.
        if let Ok(mut tick) = tick.try_lock() {
            let done = done.iter().map(|d| d.load(Ordering::Relaxed)).sum();
            tick(done, total, rebind_queue::LIVE);
        }
    };
    std::thread::scope(|scope| {
        let mut running = Vec::new();
        for ((switch, groups), mine) in work.iter().zip(&done) {
            let report = &report;
            let run = move || switch.run(groups, trail, |count| report(mine, count));
            running.push((*switch, scope.spawn(run)));
        }
        let mut results = Vec::new();
        for (switch, thread) in running {
            match thread.join() {
                Ok(done) => results.extend(done.into_iter().map(|result| (switch, result))),
                Err(panic) => std::panic::resume_unwind(panic),
            }
        }
        results
    })
}

/// The result for a group that is not to be changed.
fn settled(group: &Group, planned: &Planned) -> GroupResult {
    let (outcome, message, advice) = match &planned.step {
        Step::Forbidden { request, external } => (
            Outcome::Refused,
            format!(
                "{} can be plugged in from outside, and is not made {request}: a safety rule that only `force: true` \
                 with a `reason` overrides",
                external.join(", ")
            ),
            vec!["leave groups with external devices at DMA".to_owned()],
        ),
        Step::Hold { request } => (
            Outcome::Unchanged,
            format!("a rule keeps one of its devices as it is, so it does not become {request}"),
            Vec::new(),
        ),
        Step::Leave | Step::Satisfied { .. } | Step::Change { .. } => (
            Outcome::Unchanged,
            "the group has this type already".to_owned(),
            Vec::new(),
        ),
    };
    GroupResult {
        route: (outcome == Outcome::Unchanged).then_some(Route::None),
        outcome,
        message: Some(message),
        advice,
        ..GroupResult::of(group)
    }
}

/// The result for a group that a lockdown keeps from becoming laxer.
fn locked_down(group: &Group) -> GroupResult {
    GroupResult {
        outcome: Outcome::Refused,
        message: Some(lockdown::IN_FORCE.to_owned()),
        ..GroupResult::of(group)
    }
}

/// The exit code of a command that applied a policy.
#[must_use]
pub fn exit(results: &[PolicyResult]) -> Exit {
    let failures: BTreeSet<GroupId> = results
        .iter()
        .filter(|r| r.is_failure())
        .map(|r| r.result.group)
        .collect();
    let is_failure = |group: &GroupResult| failures.contains(&group.group);
    exit_by(results.iter().map(|r| &r.result), is_failure)
}

// SPDX-License-Identifier: GPL-2.0-only
//! Making a machine as a policy wants it, or finding out what that would take.
//!
//! All groups go in one batch: those that are to become strict, those that are to become lazy, and so on, all at the same
//! time, since the waits of tightens that run together are shared. Each group has one type and gets it in one write, so
//! it is changed whole or not at all.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Mutex;
use std::time::Duration;

use iommuctl_policy::{
    evaluate, plan, Decision, Group, GroupId, Inventory, OnFailure, Planned, Policy, RouteLimit,
    RuleName, Step, TypeRequest,
};
use serde::Serialize;

use crate::args::RouteChoice;
use crate::context::Context;
use crate::exit::Exit;
use crate::switch::{GroupResult, Member, Outcome, Switch};

/// What came of a policy for one group.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PolicyResult {
    /// What was done about the group.
    #[serde(flatten)]
    pub result: GroupResult,
    /// What the policy wants it to be.
    pub wanted: TypeRequest,
    /// The rules that decided; empty if the defaults did.
    pub rules: Vec<RuleName>,
    /// Whether the devices of the group want different things, so that the strictest wish decided.
    pub conflict: bool,
    /// What it means if it did not get that.
    pub on_failure: OnFailure,
}

impl PolicyResult {
    /// Whether the group is not what the policy wants, and a rule says that this is a failure.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        self.is_unmet() && self.on_failure == OnFailure::Fail
    }

    /// Whether the group could not be made what the policy wants.
    #[must_use]
    pub fn is_unmet(&self) -> bool {
        match self.result.outcome {
            Outcome::Unchanged | Outcome::Changed | Outcome::Planned => false,
            Outcome::Refused | Outcome::Failed | Outcome::TimedOut => true,
        }
    }
}

/// A policy on a machine.
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
    /// Whether to stop before the writes.
    pub dry_run: bool,
    /// How long to wait for each write.
    pub timeout: Duration,
}

/// What is the same for many groups, so that they go in one batch.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Batch {
    request: TypeRequest,
    route: RouteLimit,
    force: bool,
}

/// What the policy wants in the way of routes, in the words of the routes there are. What only a reboot can do is never
/// done by itself: the refusal says what to do.
fn choice(limit: RouteLimit) -> RouteChoice {
    match limit {
        RouteLimit::Live => RouteChoice::Live,
        RouteLimit::Rebind | RouteLimit::Boot => RouteChoice::Auto,
    }
}

impl Application<'_> {
    /// Does it, or finds out what it would take. Returns one result for each group the policy wants something of, by group
    /// number. `tick` is called about ten times a second with the number of groups that are done, and of those to change.
    pub fn run(&self, tick: impl FnMut(usize, usize) + Send) -> Vec<PolicyResult> {
        let decisions = evaluate(self.policy, self.inventory);
        let steps = plan(&decisions, self.inventory);
        let wanted = |id: &GroupId| self.only.is_none_or(|only| only.contains(id));
        let mut batches: BTreeMap<Batch, BTreeSet<GroupId>> = BTreeMap::new();
        let mut results = Vec::new();
        for (decision, planned) in decisions.iter().zip(&steps) {
            let (Some(group), true) = (self.inventory.group(planned.group), wanted(&planned.group))
            else {
                continue;
            };
            match &planned.step {
                Step::Leave => {}
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

    /// All batches at the same time. Returns each group's result with what was asked for.
    fn switch(
        &self,
        batches: &BTreeMap<Batch, BTreeSet<GroupId>>,
        tick: impl FnMut(usize, usize) + Send,
    ) -> Vec<(TypeRequest, GroupResult)> {
        let capabilities = self.context.proc.capabilities();
        let total = batches.values().map(BTreeSet::len).sum();
        let tick = Mutex::new(tick);
        let done: Vec<AtomicUsize> = batches.iter().map(|_| AtomicUsize::new(0)).collect();
        let report = |mine: &AtomicUsize, count: usize| {
            mine.store(count, Ordering::Relaxed);
            // One of them says it for all; if another is just saying it, that is as good.
            if let Ok(mut tick) = tick.try_lock() {
                tick(done.iter().map(|d| d.load(Ordering::Relaxed)).sum(), total);
            }
        };
        std::thread::scope(|scope| {
            let mut running = Vec::new();
            for ((batch, groups), mine) in batches.iter().zip(&done) {
                let report = &report;
                let switch = Switch {
                    sysfs: &self.context.sysfs,
                    request: batch.request,
                    choice: choice(batch.route),
                    force: batch.force,
                    dry_run: self.dry_run,
                    timeout: self.timeout,
                    capabilities,
                };
                let run = move || switch.run(groups, |count| report(mine, count));
                running.push((batch.request, scope.spawn(run)));
            }
            let mut results = Vec::new();
            for (request, thread) in running {
                match thread.join() {
                    Ok(done) => results.extend(done.into_iter().map(|result| (request, result))),
                    Err(panic) => std::panic::resume_unwind(panic),
                }
            }
            results
        })
    }

    fn describe(
        &self,
        decision: &Decision,
        wanted: TypeRequest,
        result: GroupResult,
    ) -> PolicyResult {
        let mut indexes: Vec<usize> = decision.deciders().filter_map(|v| v.wish.rule()).collect();
        indexes.sort_unstable();
        indexes.dedup();
        PolicyResult {
            result,
            wanted,
            rules: indexes
                .into_iter()
                .filter_map(|index| RuleName::of(self.policy, index))
                .collect(),
            conflict: decision.is_conflict(),
            on_failure: decision.on_failure,
        }
    }
}

/// The result for a group about which nothing is to be done.
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
    let member = |d: &iommuctl_policy::Device| Member {
        name: d.name.clone(),
        driver: d.driver.clone(),
    };
    GroupResult {
        group: group.id,
        devices: group.devices.iter().map(member).collect(),
        old_type: planned.current.clone(),
        new_type: planned.current.clone(),
        route: (outcome == Outcome::Unchanged).then_some(iommuctl_policy::Route::None),
        needs: None,
        outcome,
        milliseconds: None,
        message: Some(message),
        advice,
    }
}

/// How a command that applied a policy is to end after `results`.
#[must_use]
pub fn exit(results: &[PolicyResult]) -> Exit {
    let mut failures = results.iter().filter(|r| r.is_failure()).peekable();
    if failures.peek().is_none() {
        return Exit::Done;
    }
    let switched =
        |r: &PolicyResult| matches!(r.result.outcome, Outcome::Changed | Outcome::Planned);
    if results.iter().any(switched) {
        Exit::Partly
    } else if failures.all(|r| r.result.outcome == Outcome::Refused) {
        Exit::Refused
    } else {
        Exit::Failed
    }
}

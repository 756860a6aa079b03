// SPDX-License-Identifier: GPL-2.0-only
//! Changing the type of groups: read, decide, write, read back.

use std::collections::BTreeSet;
use std::sync::mpsc::{self, RecvTimeoutError};
use std::sync::Mutex;
use std::time::Duration;

use iommuctl_policy::{Group, GroupId, Inventory, Route, TypeRequest};

use super::advice::{self, Facts, Kind};
use super::checks::Check;
use super::outcome::{milliseconds, GroupResult, Outcome, WriteReport};
use super::rebind::group::Interrupt;
use super::route::{self, Allowed, Decision};
use crate::audit::trail::Trail;
use crate::kernel::attribute_write::{self, Written};
use crate::kernel::machine::Context;
use crate::kernel::procfs::{Capabilities, Proc};
use crate::kernel::sysfs::{Problems, Sysfs};
use crate::state::change_lock::Lock;

/// How many groups are switched at the same time. The grace periods of switches that run together are shared, so many
/// groups take hardly longer than one; but each has a process of its own.
const MAX_PARALLEL: usize = 64;

/// What is to be done, the same for each group.
#[derive(Clone, Debug)]
pub struct Switch<'a> {
    /// The open sysfs, for reading and for writing.
    pub sysfs: &'a Sysfs,
    /// The open procfs.
    pub proc: &'a Proc,
    /// The type wanted.
    pub request: TypeRequest,
    /// The routes allowed.
    pub allowed: Allowed,
    /// The checks that are overridden.
    pub overrides: BTreeSet<Check>,
    /// Whether a rule of a policy overrides our own safety rules.
    pub force: bool,
    /// How long to wait for each write.
    pub timeout: Duration,
    /// What this process may do, for explanations.
    pub capabilities: Option<Capabilities>,
    /// The lock, if it is to be held until the kernel has ended what was begun, even if this process is killed.
    pub keep: Option<&'a Lock>,
}

/// [`route::decide`], with or without our own safety rules.
type Decide = fn(&Group, TypeRequest, bool, Allowed) -> Decision;

impl<'a> Switch<'a> {
    /// A change to `request` with no more allowed than `allowed` says.
    #[must_use]
    pub fn new(
        context: &'a Context,
        request: TypeRequest,
        allowed: Allowed,
        timeout: Duration,
    ) -> Self {
        Self {
            sysfs: &context.sysfs,
            proc: &context.proc,
            request,
            allowed,
            overrides: BTreeSet::new(),
            force: false,
            timeout,
            capabilities: context.proc.capabilities(),
            keep: None,
        }
    }
}

impl Switch<'_> {
    /// What would be done about all of `groups`, by number, as they are in `inventory`. Nothing is.
    #[must_use]
    pub fn survey(&self, groups: &BTreeSet<GroupId>, inventory: &Inventory) -> Vec<GroupResult> {
        let module = self.sysfs.has_module();
        let survey = |id: &GroupId| match inventory.group(*id) {
            Some(group) => self.look(group, module),
            None => vanished(*id),
        };
        groups.iter().map(survey).collect()
    }

    /// Switches those of `groups` that can be switched live, many at a time. Returns one result for each, by group
    /// number; one that needs a rebind is only planned. `tick` is called about ten times a second with the number of
    /// groups that are done.
    pub fn run(
        &self,
        groups: &BTreeSet<GroupId>,
        trail: &Trail,
        mut tick: impl FnMut(usize),
    ) -> Vec<GroupResult> {
        let todo = Mutex::new(groups.iter().copied());
        let next = || todo.lock().ok().and_then(|mut ids| ids.next());
        let (sender, receiver) = mpsc::channel();
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            for _ in 0..groups.len().min(MAX_PARALLEL) {
                let sender = sender.clone();
                scope.spawn(|| {
                    let sender = sender;
                    while let Some(id) = next() {
                        // The receiver lives until all senders are gone.
                        let _ = sender.send(self.switch(id, trail));
                    }
                });
            }
            drop(sender);
            loop {
                match receiver.recv_timeout(Duration::from_millis(100)) {
                    Ok(result) => results.push(result),
                    Err(RecvTimeoutError::Timeout) => {}
                    Err(RecvTimeoutError::Disconnected) => break,
                }
                tick(results.len());
            }
        });
        results.sort_by_key(|r| r.group);
        results
    }

    /// What would be done about one group.
    fn look(&self, group: &Group, module: bool) -> GroupResult {
        let mut result = GroupResult::of(group);
        let decide: Decide = if self.force {
            route::decide_by_force
        } else {
            route::decide
        };
        match decide(group, self.request, module, self.allowed) {
            Decision::Refuse(refusal) => {
                result.outcome = Outcome::Refused;
                result.needs = refusal.needs;
                result.message = Some(refusal.reason);
                result.advice = refusal.advice;
                if refusal.needs == Some(Route::Rebind) {
                    self.check_the_advice(group, &mut result);
                }
            }
            Decision::Go { route, why } => {
                result.route = Some(route);
                result.message = Some(why.to_owned());
                match route {
                    Route::None => result.outcome = Outcome::Unchanged,
                    Route::Rebind => {
                        self.interrupt().survey(group, &mut result);
                        self.mention_live(group, decide, module, &mut result);
                    }
                    Route::Sysfs | Route::Module | Route::Boot => {
                        result.outcome = Outcome::Planned;
                        result.writes = vec![self.type_write(group.id)];
                        self.interrupt().look_for_vfio(group, &mut result);
                    }
                }
            }
        }
        result
    }

    /// Advice that would be refused is none: what speaks against a rebind now is said in its place.
    fn check_the_advice(&self, group: &Group, result: &mut GroupResult) {
        let mut tried = GroupResult::of(group);
        tried.route = Some(Route::Rebind);
        self.interrupt().survey(group, &mut tried);
        if tried.outcome != Outcome::Refused {
            return;
        }
        // The first reason is enough to know.
        let why = match tried.findings.as_slice() {
            [] => tried.message.unwrap_or_default(),
            [one] => one.message.clone(),
            [first, rest @ ..] => format!("{} (and {} more)", first.message, rest.len()),
        };
        for line in &mut result.advice {
            if advice::is_about_rebind(line) {
                *line = advice::no_rebind(&why);
            }
        }
    }

    /// Who asks for a rebind by name may not know that nothing has to be interrupted.
    fn mention_live(&self, group: &Group, decide: Decide, module: bool, result: &mut GroupResult) {
        let live = decide(group, self.request, module, Allowed::Live);
        if matches!(live, Decision::Go { .. }) {
            result.advice.push(advice::WORKS_LIVE.to_owned());
        }
    }

    /// What unbinds drivers, for the same change.
    #[must_use]
    pub fn interrupt(&self) -> Interrupt<'_> {
        Interrupt {
            sysfs: self.sysfs,
            proc: self.proc,
            request: self.request,
            allowed: self.allowed,
            overrides: &self.overrides,
            timeout: self.timeout,
        }
    }

    fn type_write(&self, id: GroupId) -> WriteReport {
        let path = format!("kernel/iommu_groups/{id}/type");
        WriteReport {
            path: self.sysfs.tree().display(&path),
            text: self.request.as_str().to_owned(),
        }
    }

    /// Switches one group. The group is read again first: what was resolved a moment ago may have changed.
    fn switch(&self, id: GroupId, trail: &Trail) -> GroupResult {
        let group = self.sysfs.group(id, &mut Problems::default());
        let mut result = match &group {
            Some(group) => self.look(group, self.sysfs.has_module()),
            None => vanished(id),
        };
        let live = result.route.filter(|route| route.is_live());
        match (result.outcome, live, group) {
            (Outcome::Planned, Some(route), Some(group)) => {
                result.outcome = Outcome::Failed;
                match trail.open(&group, self.request, route) {
                    Ok(opened) => {
                        self.write(&group, self.sysfs.has_module(), &mut result);
                        trail.close(opened, result.ending(self.request));
                    }
                    Err(why) => result.leave(Outcome::Failed, &why),
                }
            }
            (Outcome::Refused | Outcome::Failed, ..) => {
                trail.note(self.sysfs, result.group, result.ending(self.request));
            }
            _ => {}
        }
        result
    }

    fn write(&self, group: &Group, module: bool, result: &mut GroupResult) {
        let explain = |errno, result: &mut GroupResult| {
            let facts = Facts {
                group,
                request: self.request,
                module,
                capabilities: self.capabilities,
            };
            let explanation = advice::explain(errno, &facts);
            result.outcome = match explanation.kind {
                Kind::Refused => Outcome::Refused,
                Kind::Failed => Outcome::Failed,
            };
            result.message = Some(explanation.message);
            result.advice = explanation.advice;
            result.errno = Some(errno as i32);
        };
        let type_file = match self.sysfs.open_type(group.id) {
            Ok(file) => file,
            Err(error) => {
                match error.errno() {
                    Some(errno) => explain(errno, result),
                    None => result.message = Some(error.to_string()),
                }
                return;
            }
        };
        // Left behind, a live switch needs no lock of its own: no device is unbound, and the kernel itself keeps the group. Who
        // wants to know that nobody writes any more has it kept.
        let keep = self.keep.and_then(|lock| lock.share().ok());
        let (written, writer) =
            attribute_write::write(type_file, self.request.as_str(), self.timeout, keep);
        result.writer = writer;
        match written {
            Written::Accepted(took) => {
                result.milliseconds = Some(milliseconds(took));
                self.read_back(result);
            }
            Written::Rejected(errno, took) => {
                result.milliseconds = Some(milliseconds(took));
                explain(errno, result);
                // It is said in the message if it did not even stay as it was.
                result.new_type = self.sysfs.domain_type(group.id).ok().flatten();
            }
            Written::StillWorking => {
                // Not read back: reading takes the group's mutex, which the kernel now holds.
                result.new_type = None;
                result.outcome = Outcome::TimedOut;
                result.message = Some(format!(
                    "the kernel is still working on it after {} s, and it cannot be cancelled",
                    self.timeout.as_secs_f64()
                ));
                result.advice = vec![format!(
                    "`iommuctl show {}` waits until it is done",
                    group.id
                )];
            }
            Written::Broken(why) => {
                result.new_type = self.sysfs.domain_type(group.id).ok().flatten();
                result.message = Some(why);
            }
        }
    }

    /// Believes the kernel's word on the type it has now, and not that a write was accepted.
    fn read_back(&self, result: &mut GroupResult) {
        result.new_type = self.sysfs.domain_type(result.group).ok().flatten();
        let wanted = self.request.result();
        match (&result.new_type, wanted) {
            (Some(now), Some(wanted)) if *now == wanted => result.outcome = Outcome::Changed,
            // What `auto` means is the kernel's choice, and may be what it was.
            (Some(now), None) => {
                let same = result.old_type.as_ref() == Some(now);
                result.outcome = if same {
                    Outcome::Unchanged
                } else {
                    Outcome::Changed
                };
            }
            (Some(now), Some(wanted)) => {
                result.outcome = Outcome::Failed;
                result.message = Some(format!(
                    "the kernel accepted {wanted}, but says afterwards that the type is {now}; somebody else may have \
                     changed it at the same time"
                ));
            }
            (None, _) => {
                result.outcome = Outcome::Failed;
                result.message = Some("the group vanished right after the write".to_owned());
            }
        }
    }
}

fn vanished(group: GroupId) -> GroupResult {
    GroupResult {
        message: Some(advice::VANISHED.to_owned()),
        advice: vec!["`iommuctl list` shows the groups there are now".to_owned()],
        ..GroupResult::new(group)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use iommuctl_policy::DomainType;

    use super::*;

    fn live<'a>(sysfs: &'a Sysfs, proc: &'a Proc, request: TypeRequest) -> Switch<'a> {
        Switch {
            sysfs,
            proc,
            request,
            allowed: Allowed::Live,
            overrides: BTreeSet::new(),
            force: false,
            timeout: Duration::from_secs(1),
            capabilities: None,
            keep: None,
        }
    }

    /// What becomes of an accepted write, if the kernel says `now` afterwards.
    fn outcome(request: TypeRequest, now: Option<&str>) -> (Outcome, Option<DomainType>) {
        let dir = tempfile::tempdir().unwrap();
        let group = dir.path().join("kernel/iommu_groups/3");
        fs::create_dir_all(&group).unwrap();
        if let Some(now) = now {
            fs::write(group.join("type"), format!("{now}\n")).unwrap();
        }
        let sysfs = Sysfs::open(Some(dir.path())).unwrap();
        let proc = Proc::open(Some(dir.path())).unwrap();
        let switch = live(&sysfs, &proc, request);
        let mut result = vanished(GroupId(3));
        result.old_type = Some(DomainType::DmaFq);
        switch.read_back(&mut result);
        (result.outcome, result.new_type)
    }

    #[test]
    fn what_counts_is_what_was_read_back() {
        use TypeRequest as To;
        let dma = Some(DomainType::Dma);
        let lazy = Some(DomainType::DmaFq);
        assert_eq!(outcome(To::Dma, Some("DMA")), (Outcome::Changed, dma));
        assert_eq!(outcome(To::Dma, Some("DMA-FQ")), (Outcome::Failed, lazy));
        assert_eq!(outcome(To::Dma, None), (Outcome::Failed, None));
    }

    #[test]
    fn auto_is_whatever_the_kernel_chose() {
        let auto = |now| outcome(TypeRequest::Auto, Some(now)).0;
        assert_eq!(auto("identity"), Outcome::Changed);
        assert_eq!(auto("DMA-FQ"), Outcome::Unchanged);
    }

    #[test]
    fn group_that_vanished_has_its_own_message() {
        let dir = tempfile::tempdir().unwrap();
        let sysfs = Sysfs::open(Some(dir.path())).unwrap();
        let proc = Proc::open(Some(dir.path())).unwrap();
        let switch = live(&sysfs, &proc, TypeRequest::Dma);
        let trail = Trail::begin(Some(dir.path()), &proc).unwrap();
        let results = switch.run(&[GroupId(3)].into(), &trail, |_| {});
        assert_eq!(results.len(), 1);
        assert!(results[0].message.as_ref().unwrap().contains("vanished"));
    }
}

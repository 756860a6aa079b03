// SPDX-License-Identifier: GPL-2.0-only
//! Changes the type of groups while their devices keep working: read, decide, write, read back.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{self, Receiver, Sender, SyncSender};
use std::sync::{Mutex, PoisonError};
use std::thread::Scope;
use std::time::Duration;

use iommuctl_policy::{Group, GroupId, Inventory, Route, TypeRequest};

use super::advice::{self, Facts, FailureKind};
use super::checks::Check;
use super::outcome::{milliseconds, GroupResult, Outcome, WriteReport};
use super::rebind::group::{Interrupt, Seen};
use super::route::{self, Allowed, Decision};
use crate::audit::trail::{Opened, Trail};
use crate::kernel::attribute_write::{WriteHelper, Written};
use crate::kernel::machine::Context;
use crate::kernel::procfs::{Capabilities, Proc};
use crate::kernel::sysfs::{Problems, Sysfs};
use crate::state::change_lock::Lock;

/// How many groups are switched at the same time, at most, each by a process of its own. A kernel that answers at once keeps
/// only the first few busy. One that waits for grace periods shares them among concurrent switches, so many groups take hardly
/// longer than one.
const MAX_PARALLEL: usize = 64;
/// How many groups are switched at the same time initially.
const INITIAL_PARALLEL: usize = 4;
/// When the kernel has not answered for this long, more groups are switched at the same time; the interval doubles each time.
const SLOW_AFTER: Duration = Duration::from_millis(2);
/// The longest interval between two progress reports.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);
/// How many groups are announced together. It takes as long as announcing one: until the records are synced.
const MAX_ANNOUNCED: usize = 256;

/// The parameters of a switch, the same for each group.
#[derive(Clone, Debug)]
pub struct Switch<'a> {
    /// The open sysfs, for reading and for writing.
    pub sysfs: &'a Sysfs,
    /// The open procfs.
    pub proc: &'a Proc,
    /// The requested type.
    pub request: TypeRequest,
    /// The routes allowed.
    pub allowed: Allowed,
    /// The checks that are overridden.
    pub overrides: BTreeSet<Check>,
    /// Whether a rule of a policy overrides our own safety rules.
    pub force: bool,
    /// How long to wait for each write.
    pub timeout: Duration,
    /// The capabilities of this process, for explanations.
    pub capabilities: Option<Capabilities>,
    /// The lock, if the kernel's work is to keep it held even after this process is killed.
    pub keep: Option<&'a Lock>,
}

/// [`route::decide`], with or without our own safety rules.
type Decide = fn(&Group, TypeRequest, bool, Allowed) -> Decision;

impl<'a> Switch<'a> {
    /// A change to `request` by the routes in `allowed`.
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
    /// Decides about all of `groups`, by number, as they are in `inventory`, without changing anything.
    #[must_use]
    pub fn survey(&self, groups: &BTreeSet<GroupId>, inventory: &Inventory) -> Vec<GroupResult> {
        let module = self.sysfs.has_module();
        let seen = Seen::default();
        let survey = |id: &GroupId| match inventory.group(*id) {
            Some(group) => self.look(group, module, &seen),
            None => vanished(*id),
        };
        groups.iter().map(survey).collect()
    }

    /// Switches those of `groups` that can be switched live, many at a time. Returns one result for each, by group
    /// number; one that needs a rebind is only planned. `tick` is called at least ten times a second with the number of
    /// groups that are done.
    ///
    /// One thread reads the groups and announces the changes, many together; several threads write; and the calling one records
    /// the outcomes, again many together.
    pub fn run(
        &self,
        groups: &BTreeSet<GroupId>,
        trail: &Trail,
        mut tick: impl FnMut(usize),
    ) -> Vec<GroupResult> {
        let (jobs, todo) = mpsc::sync_channel(MAX_ANNOUNCED);
        let (done, ended) = mpsc::channel();
        let work = Work {
            switch: self,
            trail,
            todo: Mutex::new(todo),
            waiting: AtomicUsize::new(0),
            writers: AtomicUsize::new(0),
            at_work: AtomicUsize::new(0),
        };
        let mut results = Vec::new();
        std::thread::scope(|scope| {
            let work = &work;
            work.spawn(scope, done.clone(), |done| {
                work.announce(scope, groups, jobs, done);
            });
            let mut wait = SLOW_AFTER;
            while results.len() < groups.len() {
                match ended.recv_timeout(wait.min(PROGRESS_INTERVAL)) {
                    Ok(first) => {
                        wait = SLOW_AFTER;
                        work.record(std::iter::once(first).chain(ended.try_iter()), &mut results);
                    }
                    // Ignore the error: a thread that panicked sends no result, and its panic is propagated by join.
                    Err(_) if work.at_work.load(Ordering::Acquire) == 0 => {
                        work.record(ended.try_iter(), &mut results);
                        break;
                    }
                    Err(_) => {
                        wait = wait.saturating_mul(2);
                        let writers = work.writers.load(Ordering::Relaxed);
                        let waiting = work.waiting.load(Ordering::Relaxed);
                        work.more(scope, waiting, writers.saturating_mul(4), &done);
                    }
                }
                tick(results.len());
            }
        });
        results.sort_by_key(|r| r.group);
        results
    }

    /// Decides about one group.
    fn look(&self, group: &Group, module: bool, seen: &Seen) -> GroupResult {
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
                    self.check_the_advice(group, seen, &mut result);
                }
            }
            Decision::Go { route, why } => {
                result.route = Some(route);
                result.message = Some(why.to_owned());
                match route {
                    Route::None => result.outcome = Outcome::Unchanged,
                    Route::Rebind => {
                        self.interrupt().survey(group, seen, &mut result);
                        self.mention_live(group, decide, module, &mut result);
                    }
                    Route::Sysfs | Route::Module | Route::Boot => {
                        result.outcome = Outcome::Planned;
                        result.writes = vec![self.type_write(group.id)];
                        self.interrupt().look_for_vfio(group, seen, &mut result);
                    }
                }
            }
        }
        result
    }

    /// Replaces advice to rebind by the reason why a rebind would be refused now.
    fn check_the_advice(&self, group: &Group, seen: &Seen, result: &mut GroupResult) {
        let mut tried = GroupResult::of(group);
        tried.route = Some(Route::Rebind);
        self.interrupt().survey(group, seen, &mut tried);
        if tried.outcome != Outcome::Refused {
            return;
        }
        // Name only the first reason.
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

    /// Mentions that no interruption is necessary: a user who requests a rebind may not know.
    fn mention_live(&self, group: &Group, decide: Decide, module: bool, result: &mut GroupResult) {
        let live = decide(group, self.request, module, Allowed::Live);
        if matches!(live, Decision::Go { .. }) {
            result.advice.push(advice::WORKS_LIVE.to_owned());
        }
    }

    /// The parameters of a rebind for the same change.
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
        let path = Sysfs::type_path(id);
        WriteReport {
            path: self.sysfs.kernfs().display(&path),
            text: self.request.as_str().to_owned(),
        }
    }

    /// Starts the process that writes.
    fn writer(&self) -> Result<WriteHelper, String> {
        // A child that is left behind by a timeout needs no lock: no device is unbound, and the kernel serializes writes to the
        // group. A caller that must know that no write is in progress sets `keep`.
        let keep = self.keep.and_then(|lock| lock.share().ok());
        WriteHelper::start(self.sysfs.kernfs(), keep)
    }

    fn write(
        &self,
        group: &Group,
        module: bool,
        helper: &mut WriteHelper,
        result: &mut GroupResult,
    ) {
        let explain = |errno, result: &mut GroupResult| {
            let facts = Facts {
                group,
                request: self.request,
                module,
                capabilities: self.capabilities,
            };
            let explanation = advice::explain(errno, &facts);
            result.outcome = match explanation.kind {
                FailureKind::Refused => Outcome::Refused,
                FailureKind::Failed => Outcome::Failed,
            };
            result.message = Some(explanation.message);
            result.advice = explanation.advice;
            result.errno = Some(errno as i32);
        };
        let path = Sysfs::type_path(group.id);
        let written = helper.write(&path, self.request.as_str(), self.timeout);
        result.writer = helper.writer();
        match written {
            Written::Accepted(took) => {
                result.milliseconds = Some(milliseconds(took));
                self.read_back(result);
            }
            Written::Rejected(errno, took) => {
                result.milliseconds = Some(milliseconds(took));
                explain(errno, result);
                // Read the type: the message says so if the write changed it all the same.
                result.new_type = self.sysfs.domain_type(group.id).ok().flatten();
            }
            Written::StillWorking => {
                // Do not read the type: that takes the group's mutex, which the kernel now holds.
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

    /// Reads the type back: an accepted write alone does not count.
    fn read_back(&self, result: &mut GroupResult) {
        result.new_type = self.sysfs.domain_type(result.group).ok().flatten();
        let wanted = self.request.result();
        match (&result.new_type, wanted) {
            (Some(now), Some(wanted)) if *now == wanted => result.outcome = Outcome::Changed,
            // For `auto` the kernel chooses the type, which may be the old one.
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

/// A group that was announced, and is about to be written to.
struct Job {
    group: Group,
    result: GroupResult,
    opened: Opened,
}

/// The result of a group, and its open record, if any.
struct Ended {
    result: GroupResult,
    opened: Option<Opened>,
}

/// The state shared by the threads of [`Switch::run`].
struct Work<'a> {
    switch: &'a Switch<'a>,
    trail: &'a Trail,
    /// The announced groups.
    todo: Mutex<Receiver<Job>>,
    /// How many announced groups no thread has taken yet.
    waiting: AtomicUsize,
    /// How many writing threads were started.
    writers: AtomicUsize,
    /// How many threads are running, besides the calling one.
    at_work: AtomicUsize,
}

/// Counts a running thread until it is dropped.
struct AtWork<'a>(&'a AtomicUsize);

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl<'env> Work<'env> {
    fn spawn<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        done: Sender<Ended>,
        work: impl FnOnce(&Sender<Ended>) + Send + 'scope,
    ) {
        self.at_work.fetch_add(1, Ordering::AcqRel);
        scope.spawn(move || {
            let _at_work = AtWork(&self.at_work);
            work(&done);
        });
    }

    /// Starts writing threads, one for each of so many groups, until there are `most`.
    fn more<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        groups: usize,
        most: usize,
        done: &Sender<Ended>,
    ) {
        let writers = self.writers.load(Ordering::Relaxed);
        let wanted = writers.saturating_add(groups).min(most).min(MAX_PARALLEL);
        for _ in writers..wanted {
            self.writers.fetch_add(1, Ordering::Relaxed);
            self.spawn(scope, done.clone(), |done| self.write(done));
        }
    }

    /// Reads each of `groups` again, since it may have changed since it was resolved, and announces the changes.
    fn announce<'scope>(
        &'scope self,
        scope: &'scope Scope<'scope, 'env>,
        groups: &BTreeSet<GroupId>,
        jobs: SyncSender<Job>,
        done: &Sender<Ended>,
    ) {
        let Self { switch, trail, .. } = self;
        let seen = Seen::default();
        let ids: Vec<GroupId> = groups.iter().copied().collect();
        for ids in ids.chunks(MAX_ANNOUNCED) {
            let module = switch.sysfs.has_module();
            let (mut planned, mut settled) = (Vec::new(), Vec::new());
            for id in ids {
                let group = switch.sysfs.group(*id, &mut Problems::default());
                let result = match &group {
                    Some(group) => switch.look(group, module, &seen),
                    None => vanished(*id),
                };
                let live = result.route.filter(|route| route.is_live());
                match (result.outcome, live, group) {
                    (Outcome::Planned, Some(route), Some(group)) => {
                        planned.push((group, route, result));
                    }
                    _ => settled.push(result),
                }
            }
            // Start the writing threads now: they get ready while the changes are announced.
            self.more(scope, planned.len(), INITIAL_PARALLEL, done);
            let opening = planned.iter().map(|(group, route, _)| (group, *route));
            match trail.open_all(opening, switch.request) {
                Ok(opened) => {
                    self.waiting.fetch_add(planned.len(), Ordering::Relaxed);
                    for ((group, _, mut result), opened) in planned.into_iter().zip(opened) {
                        result.outcome = Outcome::Failed;
                        let job = Job {
                            group,
                            result,
                            opened,
                        };
                        // The receiver exists for as long as this thread.
                        let _ = jobs.send(job);
                    }
                }
                Err(why) => {
                    for (_, _, mut result) in planned {
                        result.leave(Outcome::Failed, &why);
                        say(done, result, None);
                    }
                }
            }
            let is_told =
                |r: &&GroupResult| matches!(r.outcome, Outcome::Refused | Outcome::Failed);
            let told = settled.iter().filter(is_told);
            let endings = told.map(|result| (result.group, result.ending(switch.request)));
            trail.note_all(switch.sysfs, endings);
            settled
                .into_iter()
                .for_each(|result| say(done, result, None));
        }
    }

    /// Writes to one group after the other.
    fn write(&self, done: &Sender<Ended>) {
        let mut helper = self.switch.writer();
        while let Some(job) = self.next() {
            let Job {
                group,
                mut result,
                mut opened,
            } = job;
            if !matches!(&helper, Ok(helper) if !helper.is_lost()) {
                helper = self.switch.writer();
            }
            match &mut helper {
                Ok(helper) => {
                    let module = self.switch.sysfs.has_module();
                    self.switch.write(&group, module, helper, &mut result);
                }
                Err(why) => result.message = Some(why.clone()),
            }
            opened.end();
            say(done, result, Some(opened));
        }
    }

    /// Takes the next group to write to; `None` if no more will follow.
    fn next(&self) -> Option<Job> {
        let todo = self.todo.lock().unwrap_or_else(PoisonError::into_inner);
        let job = todo.recv().ok()?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(job)
    }

    /// Records the outcomes of some groups, and adds their results to `results`.
    fn record(&self, ended: impl Iterator<Item = Ended>, results: &mut Vec<GroupResult>) {
        let from = results.len();
        let mut opened = Vec::new();
        for one in ended {
            opened.push(one.opened);
            results.push(one.result);
        }
        let these = results.get(from..).unwrap_or_default();
        let pairs = opened.into_iter().zip(these);
        let request = self.switch.request;
        let pairs = pairs.filter_map(|(opened, result)| Some((opened?, result.ending(request))));
        self.trail.close_all(pairs);
    }
}

fn say(done: &Sender<Ended>, result: GroupResult, opened: Option<Opened>) {
    // The receiver exists until there is a result for each group.
    let _ = done.send(Ended { result, opened });
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

// SPDX-License-Identifier: GPL-2.0-only
//! Changes that interrupt devices: checks, plans, executes and reports a rebind, one group at a time.
//!
//! At no time are the drivers of more than one group unbound, and after the first group that is not fully restored the others
//! are left alone.

use std::collections::BTreeSet;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use iommuctl_policy::{DomainType, Group, GroupId, Route, TypeRequest};

use super::account::{Account, End};
use super::journal::Journal;
use super::kill_point::KillPoint;
use super::machine::Bound;
use super::plan::{Plan, Write};
use super::real_machine::Kernel;
use super::{engine, survey};
use crate::change::advice::{self, Facts, FailureKind};
use crate::change::checks::{self, Check, CheckFinding, Inspector, Present};
use crate::change::outcome::{milliseconds, GroupResult, Interrupted, Outcome, WriteReport};
use crate::change::route::Allowed;
use crate::kernel::procfs::Proc;
use crate::kernel::sysfs::{Problems, Sysfs};
use crate::state::change_lock::Lock;
use crate::sys::kernfs::KernFsError;
use crate::sys::private_dir::PrivateDir;
use crate::sys::signals::Signals;

/// The parameters of a rebind, the same for each group.
#[derive(Clone, Copy, Debug)]
pub struct Interrupt<'a> {
    /// The open sysfs.
    pub sysfs: &'a Sysfs,
    /// The open procfs.
    pub proc: &'a Proc,
    /// The requested type.
    pub request: TypeRequest,
    /// The routes allowed.
    pub allowed: Allowed,
    /// The checks that are overridden.
    pub overrides: &'a BTreeSet<Check>,
    /// How long to wait for each step.
    pub timeout: Duration,
}

/// The resources of a rebind that is executed.
pub struct Tools<'a> {
    /// The directory of the journals.
    pub run: &'a PrivateDir,
    /// The lock of the change, which this process holds.
    pub lock: &'a Lock,
    /// The termination signals, polled between two steps.
    pub signals: &'a mut Signals,
    /// The point at which a test kills the process.
    pub kill_point: &'a mut KillPoint,
}

/// The state of the machine, read once to examine many groups while none of them is changed.
#[derive(Debug, Default)]
pub struct Seen {
    /// The block devices and PCI devices; `None` if they cannot be read, which each group then reports.
    present: OnceLock<Option<Present>>,
}

impl Seen {
    fn present(&self, sysfs: &Sysfs) -> Option<&Present> {
        let read = || Present::read(sysfs).ok();
        self.present.get_or_init(read).as_ref()
    }
}

impl Interrupt<'_> {
    /// Plans a rebind of `group`, and sets `result` to what it would do, or why it is refused. `seen` is the state of the
    /// machine from before the first of many groups.
    pub fn survey(&self, group: &Group, seen: &Seen, result: &mut GroupResult) {
        if let Some(plan) = self.plan(group, seen.present(self.sysfs), result) {
            result.outcome = Outcome::Planned;
            let writes = plan.writes().into_iter();
            result.writes = writes.map(|w| self.report(w)).collect();
        }
    }

    /// Checks whether VFIO has a device open in a group that no driver holds. The kernel refuses the change then,
    /// but with no more than EPERM.
    pub fn look_for_vfio(&self, group: &Group, seen: &Seen, result: &mut GroupResult) {
        let relax =
            group.domain_type == Some(DomainType::Dma) && self.request == TypeRequest::DmaFq;
        let tightens = result.route == Some(Route::Module);
        if relax || tightens || group.holders().next().is_some() {
            return;
        }
        let (sysfs, proc) = (self.sysfs, self.proc);
        // Continue if it cannot be read: the kernel checks it again.
        let findings = Inspector { sysfs, proc }.vfio(group).unwrap_or_default();
        if findings.is_empty() {
            return;
        }
        if self.allowed != Allowed::Live && self.overrides.contains(&Check::Vfio) {
            result.route = Some(Route::Rebind);
            self.survey(group, seen, result);
        } else {
            refuse(result, findings);
        }
    }

    fn findings(
        &self,
        group: &Group,
        present: Option<&Present>,
    ) -> Result<Vec<CheckFinding>, KernFsError> {
        let (sysfs, proc) = (self.sysfs, self.proc);
        let inspector = Inspector { sysfs, proc };
        match present {
            Some(present) => inspector.findings_among(group, present),
            None => inspector.findings(group),
        }
    }

    /// Makes the plan, if no check refuses it or all that do are overridden; otherwise sets `result` to the findings. Without
    /// `present`, the machine's devices are read now.
    fn plan(
        &self,
        group: &Group,
        present: Option<&Present>,
        result: &mut GroupResult,
    ) -> Option<Plan> {
        let unknown = |error: KernFsError, result: &mut GroupResult| {
            result.outcome = Outcome::Refused;
            result.needs = result.route.take();
            result.writes.clear();
            result.message = Some(format!("it cannot be told what is in use: {error}"));
        };
        let findings = match self.findings(group, present) {
            Ok(findings) => findings,
            Err(error) => {
                unknown(error, result);
                return None;
            }
        };
        let open = |f: &&CheckFinding| !self.overrides.contains(&f.check);
        if findings.iter().any(|f| open(&f)) {
            refuse(result, findings.into_iter().filter(|f| open(&f)).collect());
            return None;
        }
        let devices = checks::to_unbind(group, &findings, self.overrides);
        let old_type = group.domain_type.as_ref()?;
        match survey::plan(self.sysfs, group, old_type, self.request, devices) {
            Ok(plan) => Some(plan),
            Err(error) => {
                unknown(error, result);
                None
            }
        }
    }

    /// Rebinds the group with number `id`, for which `result` was planned. Repeats all checks first. Returns whether every
    /// device is bound again.
    pub fn run(
        &self,
        id: GroupId,
        result: &mut GroupResult,
        tools: &mut Tools<'_>,
        tick: &mut dyn FnMut(&str),
    ) -> bool {
        let Some(group) = self.sysfs.group(id, &mut Problems::default()) else {
            result.outcome = Outcome::Failed;
            result.message = Some(advice::VANISHED.to_owned());
            return true;
        };
        let Some(plan) = self.plan(&group, None, result) else {
            return true;
        };
        result.writes.clear();
        let journal = match Journal::begin(tools.run, &plan, tools.kill_point) {
            Ok(journal) => journal,
            Err(error) => {
                result.outcome = Outcome::Failed;
                result.message = Some(format!("nothing was done: {error}"));
                result.advice = vec!["`iommuctl recover` first".to_owned()];
                return true;
            }
        };
        let signals = Some(&mut *tools.signals);
        let (sysfs, lock, timeout) = (self.sysfs, tools.lock, self.timeout);
        let mut kernel = Kernel::new(sysfs, lock, journal, signals, &plan, timeout, tick);
        let begin = Instant::now();
        let account = engine::run(&mut kernel, &plan, self.timeout);
        result.milliseconds = Some(milliseconds(begin.elapsed()));
        result.writer = kernel.writer();
        let whole = account.whole;
        let left = match whole {
            true => kernel.into_journal().end().err(),
            false => None,
        };
        self.tell(&group, &plan, account, result);
        if let Some(error) = left {
            result
                .advice
                .push(format!("`iommuctl recover` removes the journal: {error}"));
        }
        whole
    }

    /// Describes the outcome in `result`.
    fn tell(&self, group: &Group, plan: &Plan, account: Account, result: &mut GroupResult) {
        result.new_type = account.domain_type;
        result.writes = account.writes.into_iter().map(|w| self.report(w)).collect();
        result.interrupted = interrupted(plan, &account.devices);
        let same = result.old_type == result.new_type;
        result.outcome = match account.end {
            // For `auto` the kernel chooses the type, which may be the old one.
            End::Done if same => Outcome::Unchanged,
            End::Done => Outcome::Changed,
            End::Stopped => Outcome::Stopped,
            End::TimedOut => Outcome::TimedOut,
            End::Failed => Outcome::Failed,
        };
        let mut words = account.notes;
        if let Some(trouble) = account.trouble {
            let mut message = trouble.message;
            if let Some(errno) = trouble.errno {
                result.errno = Some(errno as i32);
                let explained = self.explain(errno, group);
                if explained.kind == FailureKind::Refused {
                    result.outcome = Outcome::Refused;
                }
                message = explained.message;
                result.advice = explained.advice;
            }
            words.insert(0, message);
            words.push(how_it_is(account.whole, same).to_owned());
        }
        result.message = (!words.is_empty()).then(|| words.join("; "));
        if !account.whole {
            result.advice.extend(way_back(plan));
        }
    }

    /// Explains the errno of the write of the type, with the drivers unbound.
    fn explain(&self, errno: nix::errno::Errno, group: &Group) -> advice::Explanation {
        let mut group = group.clone();
        for device in group.devices.iter_mut().filter(|d| d.holds_group()) {
            device.driver = None;
        }
        let facts = Facts {
            group: &group,
            request: self.request,
            module: self.sysfs.has_module(),
            capabilities: self.proc.capabilities(),
        };
        advice::explain(errno, &facts)
    }

    fn report(&self, write: Write) -> WriteReport {
        WriteReport {
            path: self.sysfs.kernfs().display(&write.path),
            text: write.text,
        }
    }
}

fn refuse(result: &mut GroupResult, findings: Vec<CheckFinding>) {
    result.outcome = Outcome::Refused;
    result.needs = Some(Route::Rebind);
    result.route = None;
    let messages: Vec<&str> = findings.iter().map(|f| f.message.as_str()).collect();
    result.message = Some(messages.join("; "));
    result.findings = findings;
    result.writes.clear();
}

fn interrupted(plan: &Plan, devices: &[super::account::Interruption]) -> Vec<Interrupted> {
    let pairs = plan.subjects.iter().zip(devices);
    let pairs = pairs.filter(|(_, device)| device.interrupted);
    let report = pairs.map(|(subject, device)| Interrupted {
        device: subject.name.clone(),
        driver: subject.driver.clone(),
        driver_now: match &device.now {
            Bound::To(driver) => Some(driver.clone()),
            Bound::Nothing | Bound::Gone => None,
        },
        milliseconds: device.took.map(milliseconds),
    });
    report.collect()
}

/// Describes the state of the devices after an error.
fn how_it_is(whole: bool, same_type: bool) -> &'static str {
    match (whole, same_type) {
        (true, true) => "the type is what it was, and every device has its driver",
        (true, false) => "every device has its driver",
        (false, _) => "not every device has its driver",
    }
}

/// The advice that restores the missing devices.
pub fn way_back(plan: &Plan) -> Vec<String> {
    let modules: BTreeSet<&str> = plan
        .subjects
        .iter()
        .filter_map(|s| s.module.as_deref())
        .collect();
    let mut lines = Vec::new();
    if !modules.is_empty() {
        let modules: Vec<&str> = modules.into_iter().collect();
        lines.push(format!(
            "if a driver is not there any more: `modprobe {}`",
            modules.join(" ")
        ));
    }
    lines.push("`iommuctl recover` binds what is still missing".to_owned());
    lines
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn what_there_is_is_read_once_for_many_groups() {
        let dir = tempfile::tempdir().unwrap();
        let class = dir.path().join("class/block");
        fs::create_dir_all(&class).unwrap();
        symlink("../../devices/a/block/sda", class.join("sda")).unwrap();
        let sysfs = Sysfs::open(Some(dir.path())).unwrap();
        let seen = Seen::default();
        let first = format!("{:?}", seen.present(&sysfs));
        assert!(first.contains("sda"), "{first}");
        fs::remove_file(class.join("sda")).unwrap();
        assert_eq!(format!("{:?}", seen.present(&sysfs)), first);
    }
}

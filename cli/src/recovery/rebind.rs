// SPDX-License-Identifier: GPL-2.0-only
//! Finishes an interrupted rebind, from its journal.

use std::time::Duration;

use iommuctl_policy::GroupId;

use iommuctl_policy::Route;

use iommuctl_policy::DomainType;

use super::{Interrupted, Recovered, RecoveredDevice};
use crate::audit::trail::Trail;
use crate::change::outcome::GroupResult;
use crate::change::outcome::Outcome;
use crate::change::rebind::account::Account;
use crate::change::rebind::engine;
use crate::change::rebind::group::way_back;
use crate::change::rebind::journal;
use crate::change::rebind::journal::Found;
use crate::change::rebind::journal::Journal;
use crate::change::rebind::kill_point::KillPoint;
use crate::change::rebind::machine::Bound;
use crate::change::rebind::plan::Plan;
use crate::change::rebind::plan::Subject;
use crate::change::rebind::real_machine::Kernel;
use crate::change::session::Session;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Sysfs;
use crate::sys::private_dir::PrivateDir;
use crate::sys::private_dir::PrivateDirError;
/// Groups whose rebind was interrupted.
pub struct Work<'a> {
    /// The machine.
    pub context: &'a Context,
    /// The directory of the journals.
    pub run: &'a PrivateDir,
    /// How long to wait for each step.
    pub timeout: Duration,
}

impl Work<'_> {
    /// Finishes the rebind of one group; without a session, only reports it.
    pub fn one(
        &self,
        group: GroupId,
        session: Option<&Session>,
        kill_point: &mut KillPoint,
        tick: &mut dyn FnMut(&str),
    ) -> Recovered {
        let mut report = Recovered::new(group, Interrupted::Rebind);
        match journal::read(self.run, group) {
            Ok(Some(found)) => self.found(&found, session, kill_point, tick, &mut report),
            // The process that had the journal has finished meanwhile.
            Ok(None) => report.done = true,
            Err(error) => {
                report.message = Some(error.to_string());
                report.advice = vec![
                    "bind what is missing by hand, as `iommuctl list` shows it, and remove the file".to_owned(),
                ];
            }
        }
        report
    }

    fn found(
        &self,
        found: &Found,
        session: Option<&Session>,
        kill_point: &mut KillPoint,
        tick: &mut dyn FnMut(&str),
        report: &mut Recovered,
    ) {
        let removed = |report: &mut Recovered, result: Result<(), PrivateDirError>| {
            report.done = result.is_ok();
            if let Err(error) = result {
                report.message = Some(error.to_string());
            }
        };
        let Some(plan) = &found.plan else {
            report.message = Some("nothing had been done yet".to_owned());
            if session.is_some() {
                removed(report, found.remove(self.run));
            }
            return;
        };
        report.old_type = Some(plan.old_type.clone());
        report.request = Some(plan.request.clone());
        report.devices = plan.subjects.iter().map(|s| self.device(s)).collect();
        let Some(session) = session else {
            return;
        };
        let journal = match Journal::resume(self.run, found, kill_point) {
            Ok(journal) => journal,
            Err(error) => {
                report.message = Some(error.to_string());
                return;
            }
        };
        let sysfs = &self.context.sysfs;
        let mut kernel = Kernel::new(
            sysfs,
            &session.lock,
            journal,
            None,
            plan,
            self.timeout,
            tick,
        );
        let account = engine::recover(&mut kernel, plan, self.timeout);
        let whole = account.whole;
        record(&session.trail, sysfs, plan, &account);
        tell(plan, account, report);
        if whole {
            removed(report, kernel.into_journal().end());
        }
    }

    /// The current state of a device.
    fn device(&self, subject: &Subject) -> RecoveredDevice {
        let sysfs = &self.context.sysfs;
        let path = sysfs.device_path(&subject.bus, &subject.name);
        let driver = sysfs.driver(&subject.path).ok().flatten();
        RecoveredDevice {
            name: subject.name.clone(),
            driver: subject.driver.clone(),
            driver_before: driver.clone(),
            driver_now: driver,
            gone: matches!(path, Ok(None)),
        }
    }
}

/// Records the end of the change that the killed process had announced. No type is written here, so a trail that does not work
/// does not prevent a device from being restored.
fn record(trail: &Trail, sysfs: &Sysfs, plan: &Plan, account: &Account) {
    let Ok(request) = plan.request.parse() else {
        return;
    };
    let old_type = DomainType::from_kernel(&plan.old_type);
    let outcome = match &account.domain_type {
        _ if !account.whole => Outcome::Failed,
        Some(now) if *now != old_type => Outcome::Changed,
        _ => Outcome::Unchanged,
    };
    let result = GroupResult {
        old_type: Some(old_type),
        new_type: account.domain_type.clone(),
        route: Some(Route::Rebind),
        outcome,
        message: Some("an interrupted rebind was finished".to_owned()),
        ..GroupResult::new(GroupId(plan.group))
    };
    trail.note(sysfs, result.group, result.ending(request));
}

fn tell(plan: &Plan, account: Account, report: &mut Recovered) {
    report.domain_type = account.domain_type;
    for (device, after) in report.devices.iter_mut().zip(account.devices) {
        device.gone = after.now == Bound::Gone;
        device.driver_now = match after.now {
            Bound::To(driver) => Some(driver),
            Bound::Nothing | Bound::Gone => None,
        };
    }
    let mut words: Vec<String> = account.trouble.into_iter().map(|t| t.message).collect();
    words.extend(account.notes);
    report.message = (!words.is_empty()).then(|| words.join("; "));
    if !account.whole {
        report.advice = way_back(plan);
    }
}

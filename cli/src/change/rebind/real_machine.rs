// SPDX-License-Identifier: GPL-2.0-only
//! The running kernel, for a rebind.

use std::time::{Duration, Instant};

use iommuctl_policy::{DomainType, GroupId};

use super::journal::Journal;
use super::machine::{Bound, Machine, WriteError};
use super::plan::{Offers, Plan, Step, Subject, Write};
use super::survey;
use crate::kernel::attribute_write::{WriteHelper, Written};
use crate::kernel::process::Process;
use crate::kernel::sysfs::Sysfs;
use crate::state::change_lock::Lock;
use crate::sys::signals::Signals;

/// How long to sleep between two checks whether a device is complete again.
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// The running kernel.
pub struct Kernel<'a> {
    sysfs: &'a Sysfs,
    lock: &'a Lock,
    journal: Journal<'a>,
    signals: Option<&'a mut Signals>,
    plan: &'a Plan,
    timeout: Duration,
    begin: Instant,
    /// Called before each write and during each wait, with the current activity.
    tick: &'a mut dyn FnMut(&str),
    doing: String,
    /// The process that wrote the type last.
    writer: Option<Process>,
}

impl<'a> Kernel<'a> {
    /// The kernel of `sysfs`, for the rebind that `journal` describes. `signals` are polled if there are any.
    pub fn new(
        sysfs: &'a Sysfs,
        lock: &'a Lock,
        journal: Journal<'a>,
        signals: Option<&'a mut Signals>,
        plan: &'a Plan,
        timeout: Duration,
        tick: &'a mut dyn FnMut(&str),
    ) -> Self {
        Self {
            sysfs,
            lock,
            journal,
            signals,
            plan,
            timeout,
            begin: Instant::now(),
            tick,
            doing: String::new(),
            writer: None,
        }
    }

    /// The process that wrote the type last, for the audit.
    #[must_use]
    pub fn writer(&self) -> Option<Process> {
        self.writer
    }

    /// Returns the journal after the rebind.
    #[must_use]
    pub fn into_journal(self) -> Journal<'a> {
        self.journal
    }
}

/// A device that cannot be read counts as existing and unbound: it is then bound, which does no harm to a bound device.
impl Machine for Kernel<'_> {
    fn record(&mut self, step: Step) -> Result<(), String> {
        self.journal.record(step).map_err(|e| e.to_string())
    }

    fn write(&mut self, write: &Write) -> Result<(), WriteError> {
        self.doing = match write.text.as_str() {
            "" => write.path.clone(),
            text => format!("{text} > {}", write.path),
        };
        (self.tick)(&self.doing);
        // Share the lock: a child that outlives us keeps it, so that no other change starts while the kernel still works.
        let keep = self.lock.share();
        let keep =
            keep.map_err(|e| WriteError::Broken(format!("Failed to share the lock: {e}")))?;
        let helper = WriteHelper::start(self.sysfs.kernfs(), Some(keep));
        let mut helper = helper.map_err(WriteError::Broken)?;
        let written = helper.write(&write.path, &write.text, self.timeout);
        if write.path == self.plan.type_path() {
            self.writer = helper.writer();
        }
        self.journal.taken();
        match written {
            Written::Accepted(_) => Ok(()),
            Written::Rejected(errno, _) => Err(WriteError::Errno(errno)),
            Written::StillWorking => Err(WriteError::StillWorking),
            Written::Broken(why) => Err(WriteError::Broken(why)),
        }
    }

    fn bound(&mut self, subject: &Subject) -> Bound {
        match self.sysfs.device_path(&subject.bus, &subject.name) {
            Ok(None) => return Bound::Gone,
            Ok(Some(path)) if path != subject.path => return Bound::Gone,
            Ok(Some(_)) | Err(_) => {}
        }
        match self.sysfs.driver(&subject.path) {
            Ok(Some(driver)) => Bound::To(driver),
            Ok(None) | Err(_) => Bound::Nothing,
        }
    }

    fn driver_override(&mut self, subject: &Subject) -> Option<String> {
        self.sysfs.driver_override(&subject.path).ok().flatten()?
    }

    fn offers(&mut self, subject: &Subject) -> Offers {
        survey::offers(self.sysfs, &subject.path).unwrap_or_default()
    }

    fn domain_type(&mut self) -> Option<DomainType> {
        let group = GroupId(self.plan.group);
        // Check the devices: group numbers are reused after a device was removed and found again.
        let is_ours = |s: &Subject| self.sysfs.group_of(&s.path).ok().flatten() == Some(group);
        if !self.plan.subjects.iter().any(is_ours) {
            return None;
        }
        self.sysfs.domain_type(group).ok().flatten()
    }

    fn stop(&mut self) -> Option<String> {
        let signal = self.signals.as_mut()?.seen()?;
        Some(format!("stopped by {signal}"))
    }

    fn now(&mut self) -> Duration {
        self.begin.elapsed()
    }

    fn pause(&mut self) {
        (self.tick)(&self.doing);
        std::thread::sleep(POLL_INTERVAL);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The recorder: what happens to the types of groups, whoever does it.
//!
//! With `iommu_live` loaded the kernel tells of every write, with who made it. What it could not tell (before the recorder
//! ran, without the module, after more events than the socket could hold) is found by comparison: what is seen against
//! what is known. Such an event says so, and names nobody.
//!
//! The memory it takes has a bound: [`BATCH`] events at a time, one entry for each group, and a few thousand processes. What
//! comes faster waits in the socket, in the kernel.

pub mod ledger;
pub mod run;
pub mod socket;
pub mod uevent;

use std::collections::{BTreeMap, BTreeSet, HashMap};

use iommuctl_policy::{Group, GroupId};

use self::ledger::{Known, Ledger};
use self::uevent::Report;
use crate::audit::clock;
use crate::audit::event::{members, Event, EventOutcome, Learned, Member, Who};
use crate::kernel::process::Process;
use crate::kernel::procfs::Proc;
use crate::kernel::sysfs::{Problems, Sysfs};

/// The most events that are recorded at once.
pub const BATCH: usize = 1024;
/// Processes that are remembered, so that a flood of writes of one is not a flood of lookups.
const MAX_PROCESSES: usize = 1024;

/// What turns reports and sights into events.
#[derive(Debug)]
pub struct Recorder<'a> {
    sysfs: &'a Sysfs,
    proc: &'a Proc,
    boot: String,
    ledger: Ledger,
    /// Devices of groups, so that a flood of writes to one is not a flood of lookups.
    devices: BTreeMap<u32, Vec<Member>>,
    processes: HashMap<Process, Who>,
    /// The number of the last write.
    seq: Option<u64>,
    /// How many events were made.
    next: u64,
}

impl<'a> Recorder<'a> {
    /// One that knows nothing yet.
    #[must_use]
    pub fn new(sysfs: &'a Sysfs, proc: &'a Proc) -> Self {
        let boot = proc.boot_id();
        Self {
            sysfs,
            proc,
            ledger: Ledger::new(boot.clone()),
            boot,
            devices: BTreeMap::new(),
            processes: HashMap::new(),
            seq: None,
            next: 0,
        }
    }

    /// Whether the module is loaded, and so the kernel tells of every write.
    #[must_use]
    pub fn has_module(&self) -> bool {
        self.sysfs.has_module()
    }

    /// Takes in what somebody has recorded.
    pub fn learn(&mut self, event: &Event) {
        self.ledger.learn(event);
    }

    /// Devices came or went: which are in a group has to be looked up again.
    pub fn forget_devices(&mut self) {
        self.devices.clear();
    }

    /// The module was loaded, and counts from 1 again.
    pub fn forget_sequence(&mut self) {
        self.seq = None;
    }

    /// The event that `report` makes, and whether others before it were missed.
    pub fn report(&mut self, report: Report) -> (Event, bool) {
        let missed = match (self.seq, report.seq) {
            (Some(last), Some(seq)) => seq != last + 1,
            _ => false,
        };
        if report.seq.is_some() {
            self.seq = report.seq;
        }
        let mut event = self.event(Learned::Kernel, report.group);
        event.devices = self.members(report.group);
        event.old_type = report.old_type;
        event.new_type = report.new_type;
        event.requested = Some(report.requested);
        event.outcome = Some(report.outcome);
        event.errno = report.errno;
        event.milliseconds = report.milliseconds;
        event.switch_seq = report.seq;
        event.who = self.process(report.who);
        self.ledger.learn(&event);
        (event, missed)
    }

    fn event(&mut self, learned: Learned, group: GroupId) -> Event {
        let moment = clock::moment(&self.boot);
        self.next += 1;
        Event::new(moment.id(self.next), moment, learned, group)
    }

    fn members(&mut self, id: GroupId) -> Vec<Member> {
        if let Some(members) = self.devices.get(&id.0) {
            return members.clone();
        }
        let group = self.sysfs.group(id, &mut Problems::default());
        let found = group.as_ref().map(members).unwrap_or_default();
        self.devices.insert(id.0, found.clone());
        found
    }

    /// Adds what `/proc` tells of a process, if it is still the one that wrote.
    fn process(&mut self, mut who: Who) -> Who {
        let Some(process) = who.process() else {
            return who;
        };
        if let Some(known) = self.processes.get(&process) {
            who.executable.clone_from(&known.executable);
            who.unit.clone_from(&known.unit);
            return who;
        }
        if process.is_alive(self.proc) {
            who.look(self.proc, process.pid);
            // It may have ended meanwhile, and another have got its number.
            if !process.is_alive(self.proc) {
                (who.executable, who.unit) = (None, None);
            }
        }
        if self.processes.len() >= MAX_PROCESSES {
            self.processes.clear();
        }
        self.processes.insert(process, who.clone());
        who
    }

    /// Groups that are not what is known of them, and nobody is at.
    pub fn differing(&mut self) -> BTreeSet<GroupId> {
        let ids = match self.sysfs.group_ids() {
            Ok(ids) => ids,
            // sysfs is there as long as the kernel; if it cannot be read now, it is at the next look.
            Err(_) => return BTreeSet::new(),
        };
        self.ledger.keep(&ids.iter().map(|id| id.0).collect());
        let busy = self.ledger.in_progress(self.proc);
        let differs = |id: &GroupId| !busy.contains(&id.0) && !self.is_known(*id);
        ids.into_iter().filter(differs).collect()
    }

    /// Whether a group is what is known of it.
    fn is_known(&self, id: GroupId) -> bool {
        let now = self.sysfs.domain_type(id).ok().flatten();
        let devices = self.sysfs.member_paths(id).unwrap_or_default();
        let known = self.ledger.group(id.0);
        known.is_some_and(|known| {
            known.devices == devices && now.is_some_and(|now| known.domain_type == now.as_str())
        })
    }

    /// The event for a group of [`Recorder::differing`]; `None` if it is gone, or known by now.
    pub fn found(&mut self, id: GroupId) -> Option<Event> {
        if self.is_known(id) {
            return None;
        }
        let group: Group = self.sysfs.group(id, &mut Problems::default())?;
        let now = group.domain_type.as_ref()?.to_string();
        let mut event = self.event(Learned::Comparison, id);
        event.devices = members(&group);
        let is_member = |known: &Known| {
            let mut devices = group.devices.iter();
            devices.any(|device| known.devices.contains(&device.path))
        };
        let before = self.ledger.group(id.0).filter(|known| is_member(known));
        match before {
            Some(known) if known.domain_type != now => {
                event.old_type = Some(known.domain_type.clone());
                event.outcome = Some(EventOutcome::Changed);
            }
            // New here, or with other devices.
            _ => event.outcome = Some(EventOutcome::FirstSeen),
        }
        event.new_type = Some(now);
        self.devices.insert(id.0, event.devices.clone());
        self.ledger.learn(&event);
        Some(event)
    }
}

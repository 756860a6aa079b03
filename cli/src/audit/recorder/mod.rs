// SPDX-License-Identifier: GPL-2.0-only
//! The recorder: records every change of a group's type, whoever makes it.
//!
//! With `iommu_live` loaded the kernel reports every write, with its writer. Changes that it could not report (before the
//! recorder ran, without the module, or after the socket overflowed) are found by comparing sysfs with the known state. Such an
//! event says so, and has no author.
//!
//! Its memory is bounded: [`BATCH`] events at a time, one entry for each group, and a few thousand processes. Further events
//! wait in the kernel's socket buffer.

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

/// How many events are recorded at once.
pub const BATCH: usize = 1024;
/// How many processes are cached, so that many writes of one process cost only one lookup.
const MAX_PROCESSES: usize = 1024;

/// Converts reports and differences into events.
#[derive(Debug)]
pub struct Recorder<'a> {
    sysfs: &'a Sysfs,
    proc: &'a Proc,
    boot: String,
    ledger: Ledger,
    /// The devices of groups, cached so that many writes to one group cost only one lookup.
    devices: BTreeMap<u32, Vec<Member>>,
    processes: HashMap<Process, Who>,
    /// The number of the last write.
    seq: Option<u64>,
    /// How many events were made.
    next: u64,
}

impl<'a> Recorder<'a> {
    /// Starts without any knowledge.
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

    /// Whether the module is loaded, so that the kernel reports every write.
    #[must_use]
    pub fn has_module(&self) -> bool {
        self.sysfs.has_module()
    }

    /// Takes an event that somebody has recorded.
    pub fn learn(&mut self, event: &Event) {
        self.ledger.learn(event);
    }

    /// Drops the cached devices of groups, after devices were added or removed.
    pub fn forget_devices(&mut self) {
        self.devices.clear();
    }

    /// Resets the sequence number, after the module was loaded: it counts from 1 again.
    pub fn forget_sequence(&mut self) {
        self.seq = None;
    }

    /// The event for `report`, and whether reports before it were missed.
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

    /// Adds what `/proc` shows of a process, if it is still the one that wrote.
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
            // The process may have ended meanwhile, and its number may be in use by another.
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

    /// The groups that differ from their known state, and that no process is changing.
    pub fn differing(&mut self) -> BTreeSet<GroupId> {
        let ids = match self.sysfs.group_ids() {
            Ok(ids) => ids,
            // Skip this round if sysfs cannot be read now; the next one will see the difference.
            Err(_) => return BTreeSet::new(),
        };
        self.ledger.keep(&ids.iter().map(|id| id.0).collect());
        let busy = self.ledger.in_progress(self.proc);
        let differs = |id: &GroupId| !busy.contains(&id.0) && !self.is_known(*id);
        ids.into_iter().filter(differs).collect()
    }

    /// Whether a group matches its known state.
    fn is_known(&self, id: GroupId) -> bool {
        let now = self.sysfs.domain_type(id).ok().flatten();
        let devices = self.sysfs.member_paths(id).unwrap_or_default();
        let known = self.ledger.group(id.0);
        known.is_some_and(|known| {
            known.devices == devices && now.is_some_and(|now| known.domain_type == now.as_str())
        })
    }

    /// The event for a group of [`Recorder::differing`]; `None` if it is gone, or no longer differs.
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
            // The group is new, or has other devices.
            _ => event.outcome = Some(EventOutcome::FirstSeen),
        }
        event.new_type = Some(now);
        self.devices.insert(id.0, event.devices.clone());
        self.ledger.learn(&event);
        Some(event)
    }
}

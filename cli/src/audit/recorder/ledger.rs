// SPDX-License-Identifier: GPL-2.0-only
//! The known state of the groups in this boot: from the log, the kernel's events, and sysfs.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use crate::audit::event::{Event, Learned, Phase};
use crate::kernel::process::Process;
use crate::kernel::procfs::Proc;

/// How many unfinished changes are remembered. Each takes a few hundred bytes, and is forgotten when it ends in whatever way.
const MAX_OPEN: usize = 4096;

/// The last known state of a group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// The directories of its devices. A group of the same number with other devices is another group.
    pub devices: BTreeSet<String>,
    /// Its type.
    pub domain_type: String,
}

impl Known {
    /// Whether `event` is about a group with the same devices.
    fn is_of(&self, event: &Event) -> bool {
        let mut devices = event.devices.iter();
        event.devices.len() == self.devices.len()
            && devices.all(|device| self.devices.contains(&device.path))
    }
}

/// The last known state of all groups.
#[derive(Debug, Default)]
pub struct Ledger {
    boot: String,
    groups: BTreeMap<u32, Known>,
    /// The changes that were announced and have not ended: their group, and the process.
    open: BTreeMap<String, (u32, Option<Process>)>,
    /// The writers and groups of the kernel's events, the latest last. What a writer records itself about the same write is
    /// older.
    told: VecDeque<(u32, Process)>,
}

impl Ledger {
    /// Starts empty for the boot with this id.
    #[must_use]
    pub fn new(boot: String) -> Self {
        Self {
            boot,
            ..Self::default()
        }
    }

    /// Takes an event of the log, or one that is about to be recorded.
    pub fn learn(&mut self, event: &Event) {
        if event.boot != self.boot {
            return;
        }
        if event.phase == Phase::Opened {
            if self.open.len() < MAX_OPEN {
                let process = event.written_by();
                self.open.insert(event.id.clone(), (event.group, process));
            }
            return;
        }
        self.open.remove(&event.id);
        let Some(now) = event.type_now() else {
            return;
        };
        let write = event.written_by().map(|writer| (event.group, writer));
        match (event.learned, write) {
            (Learned::Kernel, Some(write)) => {
                if self.told.back() != Some(&write) {
                    self.told.push_back(write);
                }
                if self.told.len() > MAX_OPEN {
                    self.told.pop_front();
                }
            }
            (Learned::Iommuctl, Some(write)) if self.told.contains(&write) => return,
            _ => {}
        }
        let known = self.groups.get_mut(&event.group);
        if let Some(known) = known.filter(|known| known.is_of(event)) {
            known.domain_type = now.to_owned();
            return;
        }
        let known = Known {
            devices: event.devices.iter().map(|d| d.path.clone()).collect(),
            domain_type: now.to_owned(),
        };
        self.groups.insert(event.group, known);
    }

    /// The last known state of a group.
    #[must_use]
    pub fn group(&self, id: u32) -> Option<&Known> {
        self.groups.get(&id)
    }

    /// Forgets the groups that no longer exist.
    pub fn keep(&mut self, ids: &BTreeSet<u32>) {
        self.groups.retain(|id, _| ids.contains(id));
    }

    /// The groups that a living process has announced to change.
    pub fn in_progress(&mut self, proc: &Proc) -> BTreeSet<u32> {
        self.open
            .retain(|_, (_, process)| process.is_some_and(|process| process.is_alive(proc)));
        self.open.values().map(|(group, _)| *group).collect()
    }
}

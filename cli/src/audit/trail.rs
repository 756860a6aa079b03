// SPDX-License-Identifier: GPL-2.0-only
//! The trail of the changes that this process makes.
//!
//! Before a change, [`Trail::open`] records the intention and syncs it; after it, [`Trail::close`] records the outcome. A
//! process that is killed in between leaves an open record, which counts as failed. Many threads change groups at the same
//! time: their records are written and synced together.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use iommuctl_policy::{AuditSettings, Group, GroupId, Require, Route, TypeRequest};

use super::clock;
use super::event::{Ending, Event, Learned, Phase, Who};
use super::log::chain::Body;
use super::log::file::Log;
use super::settings::{self, SettingsError};
use super::sinks::{journald, linux_audit};
use crate::kernel::procfs::Proc;
use crate::kernel::sysfs::{Problems, Sysfs};

/// An announced change.
#[derive(Debug)]
#[must_use]
pub struct Opened(Event);

impl Opened {
    /// Notes the time at which the change ended; the outcome can be recorded later, together with others.
    pub fn end(&mut self) {
        let Self(event) = self;
        event.time = clock::now();
        event.uptime_ms = clock::uptime_ms();
    }
}

/// The result of recording an event.
type Slot = Arc<OnceLock<Result<(), String>>>;

/// The trail of this process.
#[derive(Debug)]
pub struct Trail {
    root: PathBuf,
    settings: AuditSettings,
    who: Who,
    boot: String,
    next: AtomicU64,
    /// The events that wait for the log.
    queue: Mutex<Vec<(Vec<Event>, Slot)>>,
    log: Mutex<Log>,
    /// The rules of a policy that decided, by group.
    rules: Mutex<BTreeMap<GroupId, Vec<String>>>,
    /// The causes of changes that were not requested themselves, by group.
    causes: Mutex<BTreeMap<GroupId, &'static str>>,
    /// The problems so far.
    troubles: Mutex<BTreeSet<String>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Ignore poisoning: the contents are only added to and taken from, so a panic leaves them consistent.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Trail {
    /// Starts the trail of this process, below `root` (default `/`).
    ///
    /// # Errors
    ///
    /// [`SettingsError`]. Whether the log can be written shows only at the first record.
    pub fn begin(root: Option<&Path>, proc: &Proc) -> Result<Self, SettingsError> {
        let (settings, log) = settings::log(root)?;
        Ok(Self {
            root: root.unwrap_or(Path::new("/")).to_owned(),
            log: Mutex::new(log),
            settings,
            who: Who::myself(proc),
            boot: proc.boot_id(),
            next: AtomicU64::new(1),
            queue: Mutex::default(),
            rules: Mutex::default(),
            causes: Mutex::default(),
            troubles: Mutex::default(),
        })
    }

    /// Sets the rules of a policy that decide for a group.
    pub fn because(&self, group: GroupId, rules: Vec<String>) {
        locked(&self.rules).insert(group, rules);
    }

    /// Sets the cause of the changes of a group from now on: `None` if they are what this process was started for.
    pub fn cause(&self, group: GroupId, cause: Option<&'static str>) {
        let mut causes = locked(&self.causes);
        match cause {
            Some(cause) => causes.insert(group, cause),
            None => causes.remove(&group),
        };
    }

    /// Announces that `group`, in its state before the change, is to become `request`.
    ///
    /// # Errors
    ///
    /// The reason, if it cannot be recorded and the settings require that. Then nothing may be changed.
    pub fn open(
        &self,
        group: &Group,
        request: TypeRequest,
        route: Route,
    ) -> Result<Opened, String> {
        let event = self.opening(group, request, route);
        self.record(std::slice::from_ref(&event))?;
        Ok(Opened(event))
    }

    /// Announces many changes at once, which takes no longer than one.
    pub fn open_all<'g>(
        &self,
        groups: impl Iterator<Item = (&'g Group, Route)>,
        request: TypeRequest,
    ) -> Result<Vec<Opened>, String> {
        let events = groups.map(|(group, route)| self.opening(group, request, route));
        let events: Vec<Event> = events.collect();
        self.record(&events)?;
        Ok(events.into_iter().map(Opened).collect())
    }

    fn opening(&self, group: &Group, request: TypeRequest, route: Route) -> Event {
        let mut event = self.event(group.id);
        event.phase = Phase::Opened;
        event.describe(group);
        event.requested = Some(request.to_string());
        event.route = Some(route.to_string());
        event
    }

    /// Records the outcome of a change that ends now.
    pub fn close(&self, mut opened: Opened, ending: Ending) {
        opened.end();
        self.close_all(std::iter::once((opened, ending)));
    }

    /// Records the outcomes of many changes at once, which takes no longer than one. Each ended when [`Opened::end`] was
    /// called.
    pub fn close_all(&self, ended: impl Iterator<Item = (Opened, Ending)>) {
        let close = |(Opened(mut event), ending): (Opened, Ending)| {
            event.close(ending);
            event
        };
        self.tell(&ended.map(close).collect::<Vec<Event>>());
    }

    /// Records a change that was not begun, such as a refusal, with the group's state in `sysfs` now.
    pub fn note(&self, sysfs: &Sysfs, group: GroupId, ending: Ending) {
        self.note_all(sysfs, std::iter::once((group, ending)));
    }

    /// Records many changes that were not begun at once, which takes hardly longer than one.
    pub fn note_all(&self, sysfs: &Sysfs, endings: impl Iterator<Item = (GroupId, Ending)>) {
        let note = |(group, ending): (GroupId, Ending)| {
            let mut event = self.event(group);
            if let Some(group) = sysfs.group(group, &mut Problems::default()) {
                event.describe(&group);
            }
            event.close(ending);
            event
        };
        self.tell(&endings.map(note).collect::<Vec<Event>>());
    }

    /// Records events after the fact; a problem is only reported at the end.
    fn tell(&self, events: &[Event]) {
        if let Err(why) = self.record(events) {
            self.trouble(why);
        }
    }

    fn event(&self, group: GroupId) -> Event {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let moment = clock::moment(&self.boot);
        let mut event = Event::new(moment.id(number), moment, Learned::Iommuctl, group);
        event.who = self.who.clone();
        event.who.rules = locked(&self.rules).get(&group).cloned().unwrap_or_default();
        let cause = locked(&self.causes).get(&group).copied();
        event.who.cause = cause.map(str::to_owned);
        event
    }

    /// The problems so far, each once.
    #[must_use]
    pub fn troubles(&self) -> Vec<String> {
        locked(&self.troubles).iter().cloned().collect()
    }

    fn trouble(&self, text: String) {
        locked(&self.troubles).insert(text);
    }

    /// Records `events` in all destinations. Fails only if an event is in no destination that counts.
    fn record(&self, events: &[Event]) -> Result<(), String> {
        if events.is_empty() {
            return Ok(());
        }
        let logged = self.append(events);
        let all = events
            .iter()
            .map(|event| self.record_elsewhere(event, logged.clone()));
        // Evaluate all of them, even after an error.
        all.fold(Ok(()), Result::and)
    }

    /// Records `event` in the other destinations, given the result of the log.
    fn record_elsewhere(&self, event: &Event, logged: Result<(), String>) -> Result<(), String> {
        // Skip an announcement that is in the log: it is of interest only if nothing follows.
        let announced = event.phase == Phase::Opened && logged.is_ok();
        let journalled = match (self.settings.journal, announced) {
            (true, false) => journald::send(&self.root, event).map_err(|e| e.to_string()),
            (true, true) => Ok(()),
            (false, _) => Err("it is switched off in audit.yaml".to_owned()),
        };
        if self.settings.linux_audit && event.phase == Phase::Closed {
            // The audit system does not count: a kernel with auditing off accepts messages, and discards them.
            if let Err(why) = linux_audit::send(event) {
                self.trouble(format!("the Linux audit system was not told: {why}"));
            }
        }
        let satisfied = match self.settings.require {
            Require::Any => logged.is_ok() || journalled.is_ok(),
            Require::Log => logged.is_ok(),
            Require::None => true,
        };
        if let (true, Err(why)) = (satisfied, &logged) {
            self.trouble(format!("a change is not in the audit log: {why}"));
        }
        match (satisfied, logged) {
            (false, Err(why)) => {
                let journal = journalled
                    .err()
                    .map(|why| format!(", nor in the journal ({why})"));
                let journal = journal.filter(|_| self.settings.require == Require::Any);
                Err(format!(
                    "it cannot be recorded in the audit log ({why}){}",
                    journal.unwrap_or_default()
                ))
            }
            _ => Ok(()),
        }
    }

    /// Appends `events` to the log, together with the events that other threads have queued.
    fn append(&self, events: &[Event]) -> Result<(), String> {
        let slot = Slot::default();
        locked(&self.queue).push((events.to_vec(), Arc::clone(&slot)));
        let mut log = locked(&self.log);
        if let Some(done) = slot.get() {
            // The previous holder of the log has written our events.
            return done.clone();
        }
        let batch = std::mem::take(&mut *locked(&self.queue));
        let (events, slots): (Vec<_>, Vec<_>) = batch.into_iter().unzip();
        let events = events.into_iter().flatten().map(Box::new);
        let bodies: Vec<Body> = events.map(Body::Event).collect();
        let written = log.append(&bodies).map_err(|error| error.to_string());
        for slot in slots {
            // The slot is only set here, under the lock of the log.
            let _ = slot.set(written.clone());
        }
        written
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! What is recorded: one type, in one version of one schema (`cli/schema/audit-log.json`), wherever it goes.

use iommuctl_policy::{Device, DomainType, Group, GroupId, Route, TypeRequest};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::kernel::process::Process;
use crate::sys::printable::printable;

/// The version of the format of a record. It changes when a record changes in a way that breaks its readers.
pub const VERSION: u32 = 1;

/// How far a change is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Phase {
    /// It is about to be made. If no record of the same id says how it ended, it counts as failed.
    Opened,
    /// It ended, as `outcome` says.
    Closed,
}

/// How it is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Learned {
    /// `iommuctl` did it, and says so itself.
    Iommuctl,
    /// The kernel said so: an event of `iommu_live`.
    Kernel,
    /// What was seen differs from what was known.
    Comparison,
}

impl Learned {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Iommuctl => "iommuctl",
            Self::Kernel => "kernel",
            Self::Comparison => "comparison",
        }
    }
}

/// How it ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum EventOutcome {
    /// The group has another type now.
    Changed,
    /// It has the type it had.
    Unchanged,
    /// A safety rule, the kernel or the module did not allow it.
    Refused,
    /// The writer had not both of the capabilities.
    Denied,
    /// It was stopped before anything was changed.
    Stopped,
    /// It went wrong.
    Failed,
    /// The kernel was not done in time, and went on.
    TimedOut,
    /// Nothing was changed: this is what the group was when it was first seen in this boot.
    FirstSeen,
}

impl EventOutcome {
    /// Every one of them, in the order in which help texts show them.
    pub const ALL: [Self; 8] = [
        Self::Changed,
        Self::Unchanged,
        Self::Refused,
        Self::Denied,
        Self::Stopped,
        Self::Failed,
        Self::TimedOut,
        Self::FirstSeen,
    ];

    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Changed => "changed",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
            Self::Denied => "denied",
            Self::Stopped => "stopped",
            Self::Failed => "failed",
            Self::TimedOut => "timed-out",
            Self::FirstSeen => "first-seen",
        }
    }

    /// Whether what was asked for did not come about.
    #[must_use]
    pub fn is_failure(self) -> bool {
        match self {
            Self::Changed | Self::Unchanged | Self::FirstSeen => false,
            Self::Refused | Self::Denied | Self::Stopped | Self::Failed | Self::TimedOut => true,
        }
    }
}

/// A device, by what stays the same from boot to boot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Its name in sysfs; for PCI, its address.
    pub name: String,
    /// Its directory in sysfs, which says where it is plugged in.
    pub path: String,
    /// PCI ids: vendor, device, subsystem vendor and subsystem device, in hexadecimal, with colons between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ids: Option<String>,
    /// The driver bound to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub driver: Option<String>,
    /// Whether it can be plugged in from outside.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub external: bool,
}

impl Member {
    fn of(device: &Device) -> Self {
        let ids = [
            device.vendor,
            device.device,
            device.subsystem_vendor,
            device.subsystem_device,
        ];
        let ids: Vec<String> = ids.iter().flatten().map(ToString::to_string).collect();
        Self {
            name: device.name.clone(),
            path: device.path.clone(),
            ids: (!ids.is_empty()).then(|| ids.join(":")),
            driver: device.driver.clone(),
            external: device.is_external(),
        }
    }
}

/// Who changed it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Who {
    /// The process.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pid: Option<u32>,
    /// When it started, in clock ticks since boot, as in the 22nd field of `/proc/PID/stat` (proc(5)). With the process
    /// id, this names one process of a boot for ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started: Option<u64>,
    /// Its real user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    /// The user who logged in, whatever sudo(8) or su(1) made of them since; `None` for what no login started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login_uid: Option<u32>,
    /// Its name, at most 15 characters.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    /// Its program.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub executable: Option<String>,
    /// The systemd unit it belongs to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    /// The rules of a policy that decided.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<String>,
    /// What it was done for, where that was not asked for by itself: [`BENCH`]. Any text, so that an older reader can
    /// still read a cause that is new.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<String>,
}

/// The cause of what a bench changes, and of what puts that back, whoever does.
pub const BENCH: &str = "bench";

impl Who {
    /// The process, if it is known for certain.
    #[must_use]
    pub fn process(&self) -> Option<Process> {
        Some(Process {
            pid: self.pid?,
            started: self.started?,
        })
    }
}

/// A device that was without its driver for a moment.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Interruption {
    /// Its name in sysfs.
    pub device: String,
    /// For how long, in milliseconds; `None` if it is not back.
    pub milliseconds: Option<f64>,
}

/// A change of a group's type, or an attempt.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Event {
    /// What the records of one change have in common.
    pub id: String,
    /// How far it is.
    pub phase: Phase,
    /// When, by the clock on the wall.
    pub time: Timestamp,
    /// When, in milliseconds since boot (`CLOCK_BOOTTIME`), which nobody can set.
    pub uptime_ms: u64,
    /// In which boot (`/proc/sys/kernel/random/boot_id`).
    pub boot: String,
    /// How it is known.
    pub learned: Learned,
    /// The group, by its number in this boot.
    pub group: u32,
    /// Its devices.
    pub devices: Vec<Member>,
    /// The type it had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub old_type: Option<String>,
    /// What was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub requested: Option<String>,
    /// The type it has now; `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub new_type: Option<String>,
    /// How it ended; `None` while it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub outcome: Option<EventOutcome>,
    /// The kernel's error number, if that is how it ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub errno: Option<i32>,
    /// Why it ended so, in words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The way it went (`none`, `sysfs`, `module`, `rebind`); `None` if that is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route: Option<String>,
    /// How long it took, in milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub milliseconds: Option<f64>,
    /// The devices that were interrupted for it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub interrupted: Vec<Interruption>,
    /// Who did it; empty if nothing says.
    pub who: Who,
    /// The process that made the write, if it is another than `who`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub writer: Option<Process>,
    /// The number `iommu_live` gave to the write (`SWITCH_SEQ`), which counts from 1 since it was loaded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub switch_seq: Option<u64>,
}

/// When and in which boot something happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Moment {
    /// By the clock on the wall.
    pub time: Timestamp,
    /// In milliseconds since boot.
    pub uptime_ms: u64,
    /// Which boot.
    pub boot: String,
}

impl Moment {
    /// An id that no other event has: `number` is another each time in this process.
    #[must_use]
    pub fn id(&self, number: u64) -> String {
        format!("{}-{}-{number}", self.uptime_ms, std::process::id())
    }
}

/// How a change ended, for [`Event::close`].
#[derive(Clone, Debug, PartialEq)]
pub struct Ending {
    /// What was asked for.
    pub request: TypeRequest,
    /// How it ended.
    pub outcome: EventOutcome,
    /// The type the group had.
    pub old_type: Option<DomainType>,
    /// The type it has now; `None` if that is not known.
    pub new_type: Option<DomainType>,
    /// The kernel's error number, if the write of the type failed.
    pub errno: Option<i32>,
    /// Why it ended so.
    pub message: Option<String>,
    /// The route taken; `None` if it came to none.
    pub route: Option<Route>,
    /// How long it took, in milliseconds.
    pub milliseconds: Option<f64>,
    /// The devices that were interrupted for it.
    pub interrupted: Vec<Interruption>,
    /// The process that made the write.
    pub writer: Option<Process>,
}

impl Event {
    /// Nothing known yet but that it is about group number `group`, and is being closed.
    #[must_use]
    pub fn new(id: String, moment: Moment, learned: Learned, group: GroupId) -> Self {
        Self {
            id,
            phase: Phase::Closed,
            time: moment.time,
            uptime_ms: moment.uptime_ms,
            boot: moment.boot,
            learned,
            group: group.0,
            devices: Vec::new(),
            old_type: None,
            requested: None,
            new_type: None,
            outcome: None,
            errno: None,
            message: None,
            route: None,
            milliseconds: None,
            interrupted: Vec::new(),
            who: Who::default(),
            writer: None,
            switch_seq: None,
        }
    }

    /// Takes the devices and the type from `group`, as it is before anything is done.
    pub fn describe(&mut self, group: &Group) {
        self.devices = members(group);
        self.old_type = group.domain_type.as_ref().map(ToString::to_string);
    }

    /// Takes over how the change ended.
    pub fn close(&mut self, ending: Ending) {
        let text = |t: DomainType| t.to_string();
        self.phase = Phase::Closed;
        self.requested = Some(ending.request.to_string());
        self.old_type = ending.old_type.map(text);
        self.new_type = ending.new_type.map(text);
        self.outcome = Some(ending.outcome);
        self.message = ending.message.as_deref().map(printable);
        self.route = ending.route.map(|r| r.to_string());
        self.milliseconds = ending.milliseconds;
        self.errno = ending.errno;
        self.writer = ending.writer;
        self.interrupted = ending.interrupted;
    }

    /// The type that its group has now, as far as this says. A write that was denied was not looked at, and one that takes
    /// long will still tell.
    #[must_use]
    pub fn type_now(&self) -> Option<&str> {
        match self.outcome {
            Some(EventOutcome::Denied | EventOutcome::TimedOut) => None,
            _ => self.new_type.as_deref(),
        }
    }

    /// The process that wrote, if it is known for certain.
    #[must_use]
    pub fn written_by(&self) -> Option<Process> {
        self.writer.or_else(|| self.who.process())
    }
}

/// The devices of `group`.
#[must_use]
pub fn members(group: &Group) -> Vec<Member> {
    group.devices.iter().map(Member::of).collect()
}

// SPDX-License-Identifier: GPL-2.0-only
//! Parses events of the kernel: `ACTION@DEVPATH`, and then `KEY=value`, each terminated by a NUL (`lib/kobject_uevent.c`; those
//! of `iommu_live` in `kmod/src/report.rs`).

use std::collections::BTreeMap;
use std::time::Duration;

use iommuctl_policy::GroupId;
use nix::libc;

use crate::audit::event::{EventOutcome, Who};
use crate::kernel::procfs::login_uid;
use crate::sys::printable::printable;

/// Buses whose devices can be in a group.
const BUSES: [&str; 5] = ["pci", "platform", "amba", "fsl-mc", "cdx"];
/// The clock ticks of proc(5) are a hundredth of a second on every architecture that has an IOMMU.
const NS_PER_TICK: u64 = 10_000_000;

/// The subject of an event.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A write of a group's type.
    Write(Box<Report>),
    /// A device was added or removed, and perhaps a group with it.
    Devices,
    /// `iommu_live` was loaded or unloaded.
    Module,
}

/// A write of a group's type, as reported by `iommu_live`.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    /// The group.
    pub group: GroupId,
    /// What was asked for.
    pub requested: String,
    /// The type before; `None` if the write was denied.
    pub old_type: Option<String>,
    /// The type after.
    pub new_type: Option<String>,
    /// How it ended.
    pub outcome: EventOutcome,
    /// The kernel's error number, if that is how it ended.
    pub errno: Option<i32>,
    /// How long it took to become strict, in milliseconds.
    pub milliseconds: Option<f64>,
    /// The number of the write.
    pub seq: Option<u64>,
    /// Who wrote.
    pub who: Who,
}

/// Parses `message`; `None` if it is irrelevant, or malformed.
#[must_use]
pub fn parse(message: &[u8]) -> Option<Message> {
    let text = String::from_utf8_lossy(message);
    let mut parts = text.split('\0');
    let (action, path) = parts.next()?.split_once('@')?;
    let fields: BTreeMap<&str, &str> = parts.filter_map(|part| part.split_once('=')).collect();
    let get = |key: &str| fields.get(key).copied();
    if get("ACTION") != Some(action) || get("DEVPATH") != Some(path) {
        return None;
    }
    if let Some(group) = path.strip_prefix("/kernel/iommu_groups/") {
        let is_ours = action == "change" && get("IOMMU_LIVE") == Some("1");
        let report = is_ours.then(|| report(group, get)).flatten()?;
        return Some(Message::Write(Box::new(report)));
    }
    if path == "/module/iommu_live" {
        return Some(Message::Module);
    }
    let moves = matches!(action, "add" | "remove");
    let has_group = get("SUBSYSTEM").is_some_and(|bus| BUSES.contains(&bus));
    (moves && has_group).then_some(Message::Devices)
}

fn report<'a>(group: &str, get: impl Fn(&str) -> Option<&'a str>) -> Option<Report> {
    if get("GROUP") != Some(group) {
        return None;
    }
    // Reject longer text: the kernel's words are short.
    let word = |key: &str| get(key).filter(|w| w.len() <= 16).map(printable);
    let (old_type, new_type) = (word("OLD_TYPE"), word("NEW_TYPE"));
    let errno: Option<i32> = get("ERRNO").and_then(|e| e.parse().ok());
    let outcome = match get("OUTCOME")? {
        "done" if old_type == new_type => EventOutcome::Unchanged,
        "done" => EventOutcome::Changed,
        "unchanged" => EventOutcome::Unchanged,
        "refused" => EventOutcome::Refused,
        "denied" => EventOutcome::Denied,
        // The kernel refuses with these errnos, too (`EBUSY` in Linux 5.15).
        "failed" if matches!(errno, Some(libc::EPERM | libc::EBUSY)) => EventOutcome::Refused,
        "failed" => EventOutcome::Failed,
        _ => return None,
    };
    let nanoseconds: Option<u64> = get("STRICT_NS").and_then(|ns| ns.parse().ok());
    let started: Option<u64> = get("WRITER_STARTED_NS").and_then(|ns| ns.parse().ok());
    let login: Option<u32> = get("WRITER_LOGIN_UID").and_then(|uid| uid.parse().ok());
    Some(Report {
        group: group.parse().ok()?,
        requested: word("REQUESTED")?,
        old_type,
        new_type,
        outcome,
        errno: errno.filter(|errno| *errno != 0),
        milliseconds: nanoseconds.map(|ns| Duration::from_nanos(ns).as_secs_f64() * 1e3),
        seq: get("SWITCH_SEQ").and_then(|n| n.parse().ok()),
        who: Who {
            pid: get("WRITER_PID").and_then(|pid| pid.parse().ok()),
            started: started.map(|ns| ns / NS_PER_TICK),
            uid: get("WRITER_UID").and_then(|uid| uid.parse().ok()),
            login_uid: login.and_then(login_uid),
            command: word("WRITER_COMM").filter(|name| !name.is_empty()),
            ..Who::default()
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIGHTEN: &str = "change@/kernel/iommu_groups/3\0ACTION=change\0DEVPATH=/kernel/iommu_groups/3\0\
        SUBSYSTEM=iommu_groups\0IOMMU_LIVE=1\0GROUP=3\0REQUESTED=DMA\0OLD_TYPE=DMA-FQ\0NEW_TYPE=DMA\0OUTCOME=done\0\
        ERRNO=0\0STRICT_NS=250000000\0DRAINED=2\0SWITCH_SEQ=7\0WRITER_PID=77\0WRITER_STARTED_NS=12340000001\0\
        WRITER_UID=0\0WRITER_LOGIN_UID=1000\0WRITER_COMM=bash\0SEQNUM=900\0";

    fn write(text: &str) -> Option<Report> {
        match parse(text.as_bytes()) {
            Some(Message::Write(report)) => Some(*report),
            _ => None,
        }
    }

    #[test]
    fn write_is_read_whole() {
        let report = write(TIGHTEN).unwrap();
        assert_eq!((report.group, report.seq), (GroupId(3), Some(7)));
        assert_eq!(report.outcome, EventOutcome::Changed);
        assert_eq!((report.errno, report.milliseconds), (None, Some(250.0)));
        assert_eq!(report.who.started, Some(1234));
        // Whatever the kernel had to wait for.
        let long = write(&TIGHTEN.replacen("NS=250000000", "NS=57000000000", 1));
        assert_eq!(long.unwrap().milliseconds, Some(57_000.0));
        assert_eq!(report.who.login_uid, Some(1000));
        assert_eq!(report.who.command.as_deref(), Some("bash"));
    }

    #[test]
    fn nothing_else_is_taken_for_a_write() {
        for (from, to) in [
            ("ACTION=change", "ACTION=add"),
            ("IOMMU_LIVE=1", "SYNTH_ARG_IOMMU_LIVE=1"),
            ("GROUP=3", "GROUP=4"),
            ("OUTCOME=done", "OUTCOME=perhaps"),
            ("REQUESTED=DMA", "REQUESTED=DMA-and-much-more-than-that"),
        ] {
            assert_eq!(write(&TIGHTEN.replacen(from, to, 1)), None, "{from}");
        }
        assert_eq!(parse(b""), None);
        assert_eq!(parse(b"libudev\0\xfe\xed"), None);
    }

    #[test]
    fn devices_and_the_module_are_noticed() {
        let event = |action: &str, path: &str, subsystem: &str| {
            let text = format!(
                "{action}@{path}\0ACTION={action}\0DEVPATH={path}\0SUBSYSTEM={subsystem}\0"
            );
            parse(text.as_bytes())
        };
        let path = "/devices/pci0000:00/0000:00:04.0";
        assert_eq!(event("add", path, "pci"), Some(Message::Devices));
        assert_eq!(event("bind", path, "pci"), None);
        assert_eq!(event("add", path, "block"), None);
        assert_eq!(
            event("remove", "/module/iommu_live", "module"),
            Some(Message::Module)
        );
    }
}

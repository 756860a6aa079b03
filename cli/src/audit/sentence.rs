// SPDX-License-Identifier: GPL-2.0-only
//! Describes events for people.

use iommuctl_policy::DomainType;
use nix::errno::Errno;

use super::event::{Event, EventOutcome, Learned, Phase, Who};
use crate::sys::printable::printable;

/// Describes a change in one sentence without control characters.
#[must_use]
pub fn sentence(event: &Event) -> String {
    let names: Vec<&str> = event.devices.iter().map(|d| d.name.as_str()).collect();
    let mut group = format!("group {}", event.group);
    if !names.is_empty() {
        group = format!("{group} ({})", names.join(", "));
    }
    let what = match event.phase {
        Phase::Opened => format!(
            "about to change {} to {}",
            or_unknown(event.old_type.as_deref()),
            or_unknown(event.requested.as_deref())
        ),
        Phase::Closed => closed(event),
    };
    let by = by(&event.who).map_or(String::new(), |by| format!(", by {by}"));
    let how = match event.learned {
        Learned::Iommuctl | Learned::Kernel => String::new(),
        Learned::Comparison => " (found by comparison)".to_owned(),
    };
    let why = match (&event.message, event.outcome) {
        (Some(message), Some(outcome)) if outcome.is_failure() => format!(": {message}"),
        _ => String::new(),
    };
    printable(&format!("{group}: {what}{by}{how}{why}"))
}

fn closed(event: &Event) -> String {
    let old = or_unknown(event.old_type.as_deref());
    let new = or_unknown(event.new_type.as_deref());
    let requested = or_unknown(event.requested.as_deref());
    let to = format!("{old} to {requested}");
    match event.outcome {
        Some(EventOutcome::Changed) => format!("changed from {old} to {new}"),
        Some(EventOutcome::Unchanged) => format!("{requested} was written, and it stays {new}"),
        Some(EventOutcome::Refused) => format!("{to} was refused"),
        Some(EventOutcome::Denied) => {
            format!("a write of {requested} was denied, since the writer had not the capabilities")
        }
        Some(EventOutcome::Stopped) => format!("{to} was stopped before anything was changed"),
        Some(EventOutcome::Failed) => format!("{to} failed"),
        Some(EventOutcome::TimedOut) => format!("{to} takes longer than was waited for"),
        Some(EventOutcome::FirstSeen) => format!("is {new}"),
        None => format!("{to} did not end"),
    }
}

/// Describes who made the change; `None` if it is not known.
#[must_use]
pub fn by(who: &Who) -> Option<String> {
    let pid = who.pid?;
    Some(described(who, &format!(" [{pid}]")))
}

/// Describes who made the change without the process id, so that repeated changes of one program can be merged.
#[must_use]
pub fn by_whom(who: &Who) -> Option<String> {
    who.pid.map(|_| described(who, ""))
}

fn described(who: &Who, number: &str) -> String {
    let name = who.command.as_deref().or(who.executable.as_deref());
    let mut words = format!("{}{number}", name.unwrap_or("process"));
    if let Some(user) = who.login_uid.or(who.uid) {
        words = format!("{words} of user {user}");
    }
    if let Some(unit) = &who.unit {
        words = format!("{words} in {unit}");
    }
    if !who.rules.is_empty() {
        words = format!("{words} for rule {}", who.rules.join(", "));
    }
    if let Some(cause) = &who.cause {
        words = format!("{words} for a {cause}");
    }
    words
}

/// Explains the consequence of `event`; `None` if there is none.
#[must_use]
pub fn meaning(event: &Event) -> Option<String> {
    let why = || {
        let errno = event.errno.map(|errno| Errno::from_raw(errno).desc());
        let why = event.message.as_deref().or(errno);
        why.map_or(String::new(), |why| format!(": {why}"))
    };
    let stays = || {
        let now = event.new_type.as_deref();
        now.map_or(String::new(), |now| format!("; it stays {now}"))
    };
    let text = match event.outcome? {
        EventOutcome::Changed => from_now_on(event.new_type.as_deref()?)?.to_owned(),
        EventOutcome::Refused => format!("refused{}{}", why(), stays()),
        EventOutcome::Stopped => format!("stopped before anything was changed{}", why()),
        EventOutcome::Denied => {
            "denied: whoever wrote had not both of CAP_SYS_ADMIN and CAP_SYS_RAWIO".to_owned()
        }
        EventOutcome::Failed => format!("failed{}", why()),
        EventOutcome::TimedOut => "the kernel was not done in time, and is still at it".to_owned(),
        EventOutcome::Unchanged | EventOutcome::FirstSeen => return None,
    };
    Some(printable(&text))
}

fn from_now_on(new_type: &str) -> Option<&'static str> {
    match DomainType::from_kernel(new_type) {
        DomainType::Dma => {
            Some("strict: from now on the device loses access the moment memory is taken back")
        }
        DomainType::DmaFq => Some(
            "lazy: from now on the device keeps access for up to 10 ms after memory is taken back",
        ),
        DomainType::Identity => {
            Some("no protection: from now on the device can reach all memory at any time")
        }
        DomainType::Blocked => Some("blocked: from now on the device can reach no memory at all"),
        DomainType::Unmanaged | DomainType::Unknown(_) => None,
    }
}

fn or_unknown(text: Option<&str>) -> &str {
    text.unwrap_or("an unknown type")
}

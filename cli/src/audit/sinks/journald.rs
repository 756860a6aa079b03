// SPDX-License-Identifier: GPL-2.0-only
//! The systemd journal, by its native protocol: one datagram of `FIELD=value` lines
//! (<https://systemd.io/JOURNAL_NATIVE_PROTOCOL/>).

use std::io;
use std::os::unix::net::UnixDatagram;
use std::path::Path;

use crate::audit::event::{Event, Phase};
use crate::audit::sentence;

/// The `MESSAGE_ID` of every change. `journalctl MESSAGE_ID=…` finds them.
pub const MESSAGE_ID: &str = "3cd768da2d60453a88a39243c5957c0c";

/// The socket of the journal, below the root.
const SOCKET: &str = "run/systemd/journal/socket";

/// Sends `event` to the journal.
///
/// # Errors
///
/// That of connect(2) or sendmsg(2): most likely there is no journal.
pub fn send(root: &Path, event: &Event) -> io::Result<()> {
    let mut text = Text(Vec::new());
    let failed = event.outcome.is_some_and(|outcome| outcome.is_failure());
    // The priorities of syslog(3): warning, notice.
    text.field("PRIORITY", if failed { "4" } else { "5" });
    text.field("MESSAGE_ID", MESSAGE_ID);
    text.field("SYSLOG_IDENTIFIER", "iommuctl");
    text.field("MESSAGE", &sentence::sentence(event));
    text.field("IOMMUCTL_ID", &event.id);
    let phase = match event.phase {
        Phase::Opened => "opened",
        Phase::Closed => "closed",
    };
    text.field("IOMMUCTL_PHASE", phase);
    text.field("IOMMUCTL_LEARNED", event.learned.as_str());
    text.field("IOMMUCTL_GROUP", &event.group.to_string());
    for device in &event.devices {
        text.field("IOMMUCTL_DEVICE", &device.name);
    }
    text.optional("IOMMUCTL_OLD_TYPE", event.old_type.as_deref());
    text.optional("IOMMUCTL_REQUESTED", event.requested.as_deref());
    text.optional("IOMMUCTL_NEW_TYPE", event.new_type.as_deref());
    text.optional("IOMMUCTL_OUTCOME", event.outcome.map(|o| o.as_str()));
    text.optional("IOMMUCTL_ROUTE", event.route.as_deref());
    let number = |n: u32| n.to_string();
    text.optional("IOMMUCTL_WHO_PID", event.who.pid.map(number).as_deref());
    text.optional("IOMMUCTL_WHO_UID", event.who.uid.map(number).as_deref());
    let login = event.who.login_uid.map(number);
    text.optional("IOMMUCTL_WHO_LOGIN_UID", login.as_deref());
    text.optional("IOMMUCTL_WHO_COMM", event.who.command.as_deref());
    text.optional("IOMMUCTL_WHO_EXE", event.who.executable.as_deref());
    text.optional("IOMMUCTL_WHO_UNIT", event.who.unit.as_deref());
    for rule in &event.who.rules {
        text.field("IOMMUCTL_RULE", rule);
    }
    text.optional("IOMMUCTL_CAUSE", event.who.cause.as_deref());
    let socket = UnixDatagram::unbound()?;
    // Do not block: a change must not wait for a journal that does not read.
    socket.set_nonblocking(true)?;
    socket.send_to(&text.0, root.join(SOCKET)).map(|_| ())
}

struct Text(Vec<u8>);

impl Text {
    fn field(&mut self, name: &str, value: &str) {
        self.0.extend_from_slice(name.as_bytes());
        if value.contains('\n') {
            // Use the form for arbitrary values: the length in eight bytes, little endian, and the bytes.
            self.0.push(b'\n');
            let length = u64::try_from(value.len()).unwrap_or(u64::MAX);
            self.0.extend_from_slice(&length.to_le_bytes());
        } else {
            self.0.push(b'=');
        }
        self.0.extend_from_slice(value.as_bytes());
        self.0.push(b'\n');
    }

    fn optional(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.field(name, value);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn value_with_a_newline_cannot_add_a_field() {
        let mut text = Text(Vec::new());
        text.field("A", "plain");
        text.field("B", "x\nC=forged");
        let mut wanted = b"A=plain\nB\n".to_vec();
        wanted.extend_from_slice(&10u64.to_le_bytes());
        wanted.extend_from_slice(b"x\nC=forged\n");
        assert_eq!(text.0, wanted);
    }
}

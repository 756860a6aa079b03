// SPDX-License-Identifier: GPL-2.0-only
//! The Linux audit system: one user message of the type `AUDIT_USER_DEVICE` (`include/uapi/linux/audit.h`), for which the
//! kernel asks for `CAP_AUDIT_WRITE`. The kernel adds pid, uid, login uid and session of this process by itself.

use std::fmt::Write as _;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

use crate::audit::event::Event;
use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::socket::{
    bind, recv, sendto, socket, AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol,
    SockType,
};

const AUDIT_USER_DEVICE: u16 = 1137;
const NLMSG_ERROR: u16 = 2;
const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
/// `struct nlmsghdr`.
const HEADER: usize = 16;
/// The kernel cuts a longer message (`MAX_AUDIT_MESSAGE_LENGTH` is 8970).
const MAX_MESSAGE: usize = 8000;
/// How long to wait for the reply. With a full backlog the kernel can block the sender for a minute; that happens in sendto(2),
/// and cannot be interrupted.
const ANSWER_TIMEOUT_MS: u16 = 1000;

/// Sends `event`, which has ended, to the audit system. A missing or disabled audit system is no error.
pub fn send(event: &Event) -> Result<(), String> {
    match try_send(event) {
        Ok(()) | Err(Errno::EPROTONOSUPPORT | Errno::ECONNREFUSED) => Ok(()),
        // Not permitted: this is root in a container, or the capability is missing.
        Err(Errno::EPERM) => Err("CAP_AUDIT_WRITE is missing".to_owned()),
        Err(errno) => Err(errno.desc().to_owned()),
    }
}

fn try_send(event: &Event) -> nix::Result<()> {
    let socket = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkAudit,
    )?;
    bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 0))?;
    let message = message(&text(event));
    let kernel = NetlinkAddr::new(0, 0);
    sendto(socket.as_raw_fd(), &message, &kernel, MsgFlags::empty())?;
    answer(&socket)
}

/// The message with its header, in native byte order.
fn message(text: &str) -> Vec<u8> {
    let length = HEADER + text.len() + 1;
    let mut message = Vec::with_capacity(length + 3);
    message.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_ne_bytes());
    message.extend_from_slice(&AUDIT_USER_DEVICE.to_ne_bytes());
    message.extend_from_slice(&(NLM_F_REQUEST | NLM_F_ACK).to_ne_bytes());
    // The sequence number and the sender.
    message.extend_from_slice(&1u32.to_ne_bytes());
    message.extend_from_slice(&0u32.to_ne_bytes());
    message.extend_from_slice(text.as_bytes());
    message.push(0);
    message.resize(message.len().next_multiple_of(4), 0);
    message
}

fn answer(socket: &OwnedFd) -> nix::Result<()> {
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    if poll(&mut fds, PollTimeout::from(ANSWER_TIMEOUT_MS))? == 0 {
        return Err(Errno::ETIMEDOUT);
    }
    let mut buffer = [0; 1024];
    let length = recv(socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT)?;
    let answer = buffer.get(..length).unwrap_or_default();
    let kind = answer.get(4..6).and_then(|b| b.try_into().ok());
    let code = answer
        .get(HEADER..HEADER + 4)
        .and_then(|b| b.try_into().ok());
    match (kind.map(u16::from_ne_bytes), code.map(i32::from_ne_bytes)) {
        (Some(NLMSG_ERROR), Some(0)) => Ok(()),
        (Some(NLMSG_ERROR), Some(code)) => Err(Errno::from_raw(code.saturating_neg())),
        _ => Err(Errno::EPROTO),
    }
}

/// The fields, with the names of the audit system where it has them.
fn text(event: &Event) -> String {
    let mut text = String::from("op=iommu-type");
    let mut field = |name: &str, value: &str| {
        let _ = write!(text, " {name}={}", encode(value));
    };
    let group = event.group.to_string();
    field("grp", &group);
    let devices: Vec<&str> = event.devices.iter().map(|d| d.name.as_str()).collect();
    field("dev", &devices.join(","));
    field("old", event.old_type.as_deref().unwrap_or("?"));
    field("new", event.new_type.as_deref().unwrap_or("?"));
    field("requested", event.requested.as_deref().unwrap_or("?"));
    field("learned", event.learned.as_str());
    if let Some(outcome) = event.outcome {
        field("outcome", outcome.as_str());
    }
    let who = &event.who;
    let number = |n: Option<u32>| n.map_or("?".to_owned(), |n| n.to_string());
    field("by-pid", &number(who.pid));
    field("by-uid", &number(who.uid));
    field("by-auid", &number(who.login_uid));
    if let Some(executable) = &who.executable {
        field("by-exe", executable);
    }
    if let Some(unit) = &who.unit {
        field("by-unit", unit);
    }
    for rule in &who.rules {
        field("rule", rule);
    }
    if let Some(cause) = &who.cause {
        field("cause", cause);
    }
    // Append only whole fields, as many as fit.
    if text.len() > MAX_MESSAGE {
        let cut = text
            .char_indices()
            .map(|(at, _)| at)
            .take_while(|at| *at <= MAX_MESSAGE)
            .last();
        text.truncate(cut.unwrap_or(0));
        text.truncate(text.rfind(' ').unwrap_or(0));
    }
    let failed = event.outcome.is_none_or(|outcome| outcome.is_failure());
    text.push_str(if failed {
        " res=failed"
    } else {
        " res=success"
    });
    text
}

/// Encodes a value like audit_encode_nv_string(3): in quotes, or in hexadecimal if it contains a character that could end the
/// value.
fn encode(value: &str) -> String {
    // Encode single quotes too: the kernel puts the whole message into single quotes.
    let is_plain = |b: u8| b > b' ' && b != b'"' && b != b'\'' && b < 0x7f;
    let is_number = !value.is_empty() && value.bytes().all(|b| b.is_ascii_digit());
    if is_number || value == "?" {
        value.to_owned()
    } else if value.bytes().all(is_plain) {
        format!("\"{value}\"")
    } else {
        let mut hexadecimal = String::with_capacity(2 * value.len());
        for byte in value.bytes() {
            let _ = write!(hexadecimal, "{byte:02X}");
        }
        hexadecimal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_value_can_end_its_field() {
        assert_eq!(encode("DMA-FQ"), "\"DMA-FQ\"");
        assert_eq!(encode("17"), "17");
        assert_eq!(encode("a b"), "612062");
        assert_eq!(encode("x\" res=success"), "7822207265733D73756363657373");
        assert_eq!(encode("it's"), "69742773");
        assert_eq!(encode("ä"), "C3A4");
    }

    #[test]
    fn header_says_how_long_the_message_is() {
        let message = message("op=x");
        assert_eq!(message.len() % 4, 0);
        assert_eq!(message[..4], 21u32.to_ne_bytes());
        assert_eq!(message[4..6], 1137u16.to_ne_bytes());
        assert_eq!(&message[16..21], b"op=x\0");
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Listening to the kernel's events, as udev does.

use std::collections::BTreeMap;
use std::os::fd::{AsRawFd as _, OwnedFd};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    bind, recv, setsockopt, socket, sockopt, AddressFamily, MsgFlags, NetlinkAddr, SockFlag,
    SockProtocol, SockType,
};

/// One event: its keys and values.
pub type Event = BTreeMap<String, String>;

/// A listener.
#[derive(Debug)]
pub struct Events {
    socket: OwnedFd,
}

impl Events {
    /// Listens from now on.
    ///
    /// # Errors
    /// When the socket cannot be made.
    pub fn listen() -> Result<Self> {
        let socket = socket(
            AddressFamily::Netlink,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::NetlinkKObjectUEvent,
        )
        .context("cannot make a socket for kernel events")?;
        // A burst of switches must not run over the default size.
        setsockopt(&socket, sockopt::RcvBuf, &(4 << 20))
            .context("cannot size the socket for kernel events")?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, 1))
            .context("cannot listen to kernel events")?;
        Ok(Self { socket })
    }

    /// The events of switches that came since the last look.
    ///
    /// # Errors
    /// When the socket breaks, or events were lost.
    pub fn switches(&self) -> Result<Vec<Event>> {
        let mut list = Vec::new();
        let mut buffer = vec![0; 16384];
        loop {
            match recv(self.socket.as_raw_fd(), &mut buffer, MsgFlags::MSG_DONTWAIT) {
                Ok(length) => list.extend(parse(&buffer[..length])),
                Err(Errno::EAGAIN) => return Ok(list),
                Err(errno) => return Err(errno).context("cannot receive kernel events"),
            }
        }
    }
}

/// `change@/kernel/iommu_groups/3\0ACTION=change\0…`; nothing when it is no switch.
fn parse(message: &[u8]) -> Option<Event> {
    let text = String::from_utf8_lossy(message).into_owned();
    let event: Event = text
        .split('\0')
        .filter_map(|part| part.split_once('='))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect();
    event.contains_key("IOMMU_LIVE").then_some(event)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_switches_are_events() {
        let event = parse(b"change@/kernel/iommu_groups/3\0ACTION=change\0IOMMU_LIVE=1\0GROUP=3\0")
            .unwrap();
        assert_eq!(event.get("GROUP").map(String::as_str), Some("3"));
        assert_eq!(parse(b"add@/devices/x\0ACTION=add\0"), None);
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The socket for the kernel's events (netlink(7), `NETLINK_KOBJECT_UEVENT`).

use std::io::IoSliceMut;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    bind, getsockname, recvmsg, setsockopt, socket, sockopt, AddressFamily, MsgFlags, NetlinkAddr,
    SockFlag, SockProtocol, SockType,
};

/// The multicast group of the kernel's own events, as opposed to those that udev forwards.
const KERNEL: u32 = 1;
/// The largest message, in bytes: the kernel's limit is 2 KiB of variables and a path.
const MAX_MESSAGE: usize = 16 * 1024;

/// The result of a receive.
#[derive(Debug, PartialEq, Eq)]
pub enum Received<'a> {
    /// An event.
    Event(&'a [u8]),
    /// A message that is not from the kernel.
    Stranger,
    /// No message at the moment.
    Nothing,
    /// The kernel had to drop events.
    Overrun,
}

/// The socket.
#[derive(Debug)]
pub struct Socket {
    fd: OwnedFd,
    buffer: Vec<u8>,
}

impl Socket {
    /// Takes the socket that systemd has opened for this service, or opens one. Then the kernel buffers `buffer` bytes, or as
    /// much as it permits.
    pub fn open(buffer: usize) -> nix::Result<Self> {
        let fd = match handed_on() {
            Some(fd) => fd,
            None => listen(buffer)?,
        };
        Ok(Self {
            fd,
            buffer: vec![0; MAX_MESSAGE],
        })
    }

    /// Receives the next event. Does not block.
    pub fn receive(&mut self) -> nix::Result<Received<'_>> {
        let (length, from_kernel) = {
            let mut parts = [IoSliceMut::new(&mut self.buffer)];
            let flags = MsgFlags::MSG_DONTWAIT;
            match recvmsg::<NetlinkAddr>(self.fd.as_raw_fd(), &mut parts, None, flags) {
                Ok(message) => {
                    // Only the kernel can send with its address, which is 0.
                    let from_kernel = message.address.is_some_and(|from| from.pid() == 0);
                    let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
                    (message.bytes, from_kernel && whole)
                }
                Err(Errno::EAGAIN | Errno::EINTR) => return Ok(Received::Nothing),
                Err(Errno::ENOBUFS) => return Ok(Received::Overrun),
                Err(errno) => return Err(errno),
            }
        };
        if !from_kernel {
            return Ok(Received::Stranger);
        }
        Ok(Received::Event(
            self.buffer.get(..length).unwrap_or_default(),
        ))
    }
}

impl AsFd for Socket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// The socket of the socket unit, which is our standard input (`StandardInput=socket`, systemd.exec(5)).
fn handed_on() -> Option<OwnedFd> {
    let stdin = std::io::stdin();
    getsockname::<NetlinkAddr>(stdin.as_raw_fd()).ok()?;
    stdin.as_fd().try_clone_to_owned().ok()
}

fn listen(buffer: usize) -> nix::Result<OwnedFd> {
    let fd = socket(
        AddressFamily::Netlink,
        SockType::Raw,
        SockFlag::SOCK_CLOEXEC,
        SockProtocol::NetlinkKObjectUEvent,
    )?;
    // Exceeding the system limit takes CAP_NET_ADMIN; without it, fall back to SO_RCVBUF, which is capped.
    if setsockopt(&fd, sockopt::RcvBufForce, &buffer).is_err() {
        setsockopt(&fd, sockopt::RcvBuf, &buffer)?;
    }
    bind(fd.as_raw_fd(), &NetlinkAddr::new(0, KERNEL))?;
    Ok(fd)
}

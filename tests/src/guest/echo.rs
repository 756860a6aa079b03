// SPDX-License-Identifier: GPL-2.0-only
//! Data through a network card and back: echo requests (RFC 792) whose answers must hold what was sent.

use std::os::fd::AsRawFd as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use nix::errno::Errno;
use nix::sys::socket::{
    recv, sendto, setsockopt, socket, sockopt, AddressFamily, MsgFlags, SockFlag, SockProtocol,
    SockType, SockaddrIn,
};
use nix::sys::time::{TimeVal, TimeValLike as _};

use super::pci;
use super::random::Random;

/// Bytes of data in one request: nearly a full frame.
const LENGTH: usize = 1400;
const ROUNDS: u16 = 10;

/// A card, its own address, and the address behind it that answers.
#[derive(Clone, Copy, Debug)]
pub struct Card {
    /// Its PCI address.
    pub device: &'static str,
    network: [u8; 3],
}

/// The network card that every machine has.
pub const NETWORK: Card = Card {
    device: pci::NETWORK,
    network: [10, 0, 2],
};
/// The card that shares its group with a disk.
pub const PAIR: Card = Card {
    device: pci::PAIR_CARD,
    network: [10, 0, 3],
};

impl Card {
    fn address(self, last: u8) -> [u8; 4] {
        let [a, b, c] = self.network;
        [a, b, c, last]
    }

    /// Gives its interface an address, which it loses with its driver, and returns the interface.
    ///
    /// # Errors
    /// When it has no interface, or that takes no address.
    pub fn up(self) -> Result<String> {
        // Or the network behind it gives it a default route over IPv6 now and then. The kernels with checks have no IPv6.
        let settings = Path::new("/proc/sys/net/ipv6/conf");
        if settings.exists() {
            for of in ["default", "all"] {
                let path = settings.join(of).join("disable_ipv6");
                std::fs::write(&path, "1")
                    .with_context(|| format!("cannot write to {}", path.display()))?;
            }
        }
        let interface = pci::interface(self.device)?;
        let [a, b, c, d] = self.address(15);
        busybox(&format!(
            "ifconfig {interface} {a}.{b}.{c}.{d} netmask 255.255.255.0 up"
        ))?;
        Ok(interface)
    }

    /// Sends data and gets it back.
    ///
    /// # Errors
    /// When nothing comes back in time, or something else does.
    pub fn check(self) -> Result<String> {
        self.up()?;
        let socket = socket(
            AddressFamily::Inet,
            SockType::Raw,
            SockFlag::SOCK_CLOEXEC,
            SockProtocol::Icmp,
        )
        .context("cannot make a raw socket")?;
        setsockopt(
            &socket,
            sockopt::ReceiveTimeout,
            &TimeVal::milliseconds(200),
        )
        .context("cannot set the socket's timeout")?;
        let [a, b, c, d] = self.address(2);
        let other = SockaddrIn::new(a, b, c, d, 0);
        for number in 0..ROUNDS {
            let request = request(number);
            let begin = Instant::now();
            loop {
                // The link takes a moment to come up, and what is sent before is lost.
                match sendto(socket.as_raw_fd(), &request, &other, MsgFlags::empty()) {
                    Ok(_) | Err(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => {}
                    Err(errno) => return Err(errno).context("cannot send"),
                }
                if answered(socket.as_raw_fd(), &request)? {
                    break;
                }
                ensure!(
                    begin.elapsed() < Duration::from_secs(20),
                    "{}: no answer to request {number} in 20 s",
                    self.device
                );
            }
        }
        Ok(format!(
            "{ROUNDS} echoes of {LENGTH} bytes through {}",
            self.device
        ))
    }
}

/// Type 8, code 0, checksum, identifier, number, data.
fn request(number: u16) -> Vec<u8> {
    let mut random = Random::new(u64::from(number));
    let mut packet = vec![8, 0, 0, 0, 0x10, 0x44];
    packet.extend(number.to_be_bytes());
    packet.extend((0..LENGTH).map(|_| random.number() as u8));
    let sum = packet.chunks_exact(2).fold(0_u32, |sum, pair| {
        sum + u32::from(u16::from_be_bytes([pair[0], pair[1]]))
    });
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !((sum & 0xffff) + (sum >> 16)) as u16;
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Whether the answer to `request` came: the same, with another type and checksum, behind the header of IP.
fn answered(socket: std::os::fd::RawFd, request: &[u8]) -> Result<bool> {
    let mut buffer = vec![0; 2048];
    loop {
        let length = match recv(socket, &mut buffer, MsgFlags::empty()) {
            Ok(length) => length,
            Err(Errno::EAGAIN | Errno::EINTR) => return Ok(false),
            Err(errno) => return Err(errno).context("cannot receive"),
        };
        let header = usize::from(buffer[0] & 0xf) * 4;
        let Some(answer) = buffer[..length].get(header..) else {
            continue;
        };
        // Answers to earlier requests that took their time are passed over.
        if answer.len() < 8 || answer[0] != 0 || answer[4..8] != request[4..8] {
            continue;
        }
        ensure!(answer[8..] == request[8..], "another answer than was sent");
        return Ok(true);
    }
}

/// Runs one of busybox's programs, with arguments separated by spaces.
///
/// # Errors
/// When it fails.
pub fn busybox(line: &str) -> Result<()> {
    let mut command = Command::new("/bin/busybox");
    let output = command.args(line.split_whitespace()).output();
    let output = output.with_context(|| format!("cannot start busybox {line}"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        bail!("busybox {line} failed ({}): {said}", output.status);
    }
    Ok(())
}

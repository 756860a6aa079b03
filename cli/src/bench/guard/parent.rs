// SPDX-License-Identifier: GPL-2.0-only
//! The guard, from the side of the bench: starts it, sends requests, and notices that it is gone.

use std::io::{self, Read as _, Write as _};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use super::protocol::{GuardReply, GuardRequest, BENCH_GUARD};
use crate::bench::mode::Mode;
use crate::kernel::machine::Roots;
use crate::state::change_lock::Lock;

/// How often a heartbeat is sent.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How long to wait for a reply, beyond the time limit for the kernel.
const GRACE_TIMEOUT: Duration = Duration::from_secs(10);

/// An error of the guard.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It could not be started.
    #[error("Failed to start the process that puts the type back: {0}")]
    Start(io::Error),
    /// It has ended unexpectedly.
    #[error("the process that puts the type back has ended")]
    Gone,
    /// It does not reply.
    #[error("the process that puts the type back (process {0}) still waits for the kernel")]
    Silent(u32),
}

/// The guard's last reply.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether nothing is left to restore.
    pub whole: bool,
    /// A description of what it did.
    pub message: String,
    /// The problems of recording it.
    pub warnings: Vec<String>,
}

/// A running guard.
#[derive(Debug)]
pub struct GuardClient {
    child: Child,
    socket: UnixStream,
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    timeout: Duration,
}

impl GuardClient {
    /// Starts the guard of `group` with a copy of `lock`, and waits until it is ready.
    ///
    /// # Errors
    ///
    /// [`GuardError`]; nothing was changed then.
    pub fn start(
        group: u32,
        lock: &Lock,
        timeout: Duration,
        roots: &Roots,
    ) -> Result<Self, GuardError> {
        let (ours, theirs) = UnixStream::pair().map_err(GuardError::Start)?;
        ours.set_read_timeout(Some(HEARTBEAT_INTERVAL))
            .map_err(GuardError::Start)?;
        // Use /proc/self/exe: during a package upgrade, the program's path is another program, or missing.
        let mut command = Command::new(Path::new("/proc/self/exe"));
        command
            .arg(BENCH_GUARD)
            .args(["--group", &group.to_string()])
            .args(["--timeout-ms", &timeout.as_millis().to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(lock.share().map_err(GuardError::Start)?))
            // Discard its standard error: it may outlive us.
            .stderr(Stdio::null());
        let roots = [
            ("--sysfs-root", &roots.sysfs_root),
            ("--proc-root", &roots.proc_root),
            ("--root", &roots.root),
        ];
        for (flag, root) in roots {
            if let Some(root) = root {
                command.arg(flag).arg(root);
            }
        }
        let child = command.spawn().map_err(GuardError::Start)?;
        // Drop the command, which has our copies of the handles that only the guard is to have.
        drop(command);
        let mut keeper = Self {
            child,
            socket: ours,
            line: Vec::new(),
            timeout,
        };
        match keeper.answer(&mut || {})? {
            GuardReply::Ready => Ok(keeper),
            _ => Err(GuardError::Gone),
        }
    }

    /// Sends a heartbeat.
    ///
    /// # Errors
    ///
    /// [`GuardError::Gone`], if the guard has ended.
    pub fn beat(&mut self) -> Result<(), GuardError> {
        self.say(GuardRequest::Alive)
    }

    /// Requests the type `mode` for the group, and waits for the reply. `tick` is called meanwhile.
    pub fn make(&mut self, mode: Mode, tick: &mut dyn FnMut()) -> Result<GuardReply, GuardError> {
        self.say(GuardRequest::Make(mode))?;
        self.answer(tick)
    }

    /// Requests the guard to restore the type and to end.
    ///
    /// # Errors
    ///
    /// [`GuardError`]. A guard that does not reply continues without us.
    pub fn end(mut self) -> Result<End, GuardError> {
        self.say(GuardRequest::End)?;
        loop {
            match self.answer(&mut || {})? {
                GuardReply::Ended {
                    whole,
                    message,
                    warnings,
                } => {
                    // Wait for its exit, which is all that is left.
                    let _ = self.child.wait();
                    return Ok(End {
                        whole,
                        message,
                        warnings,
                    });
                }
                // Skip the reply to an earlier request whose wait was given up.
                _ => continue,
            }
        }
    }

    fn say(&mut self, ask: GuardRequest) -> Result<(), GuardError> {
        let mut line = serde_json::to_vec(&ask).map_err(|_| GuardError::Gone)?;
        line.push(b'\n');
        self.socket.write_all(&line).map_err(|_| GuardError::Gone)
    }

    fn answer(&mut self, tick: &mut dyn FnMut()) -> Result<GuardReply, GuardError> {
        let begin = Instant::now();
        let mut bytes = [0; 1024];
        loop {
            if let Some(end) = self.line.iter().position(|b| *b == b'\n') {
                let line: Vec<u8> = self.line.drain(..=end).collect();
                return serde_json::from_slice(&line).map_err(|_| GuardError::Gone);
            }
            match self.socket.read(&mut bytes) {
                Ok(0) => return Err(GuardError::Gone),
                Ok(count) => self.line.extend(bytes.iter().take(count)),
                // Check the raw errno for a timeout or a signal.
                Err(error) if is_again(&error) => {
                    if begin.elapsed() > self.timeout + GRACE_TIMEOUT {
                        return Err(GuardError::Silent(self.child.id()));
                    }
                    self.beat()?;
                    tick();
                }
                Err(_) => return Err(GuardError::Gone),
            }
        }
    }
}

fn is_again(error: &io::Error) -> bool {
    use nix::errno::Errno;
    let errno = error.raw_os_error().map(Errno::from_raw);
    matches!(errno, Some(Errno::EAGAIN | Errno::EINTR))
}

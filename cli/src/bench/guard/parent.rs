// SPDX-License-Identifier: GPL-2.0-only
//! The guard, as the bench sees it: starting it, asking it, and noticing that it is gone.

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

/// How often it is told that we are there.
pub const HEARTBEAT_INTERVAL: Duration = Duration::from_millis(100);
/// How long, beyond what the kernel is given, until something must have been said.
const GRACE_TIMEOUT: Duration = Duration::from_secs(10);

/// What can go wrong with it.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// It does not run.
    #[error("Failed to start the process that puts the type back: {0}")]
    Start(io::Error),
    /// It has ended, and not because we wanted it to.
    #[error("the process that puts the type back has ended")]
    Gone,
    /// It does not answer.
    #[error("the process that puts the type back (process {0}) still waits for the kernel")]
    Silent(u32),
}

/// How it ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct End {
    /// Whether nothing is left to put back.
    pub whole: bool,
    /// What it did, in words.
    pub message: String,
    /// What it could not record as it should.
    pub warnings: Vec<String>,
}

/// The guard.
#[derive(Debug)]
pub struct GuardClient {
    child: Child,
    socket: UnixStream,
    /// What was read and is no whole line yet.
    line: Vec<u8>,
    timeout: Duration,
}

impl GuardClient {
    /// Starts the guard of `group`, which has its copy of `lock`, and waits until it is ready.
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
        // Not the path of the program: that is another program, or none, while a package is being upgraded.
        let mut command = Command::new(Path::new("/proc/self/exe"));
        command
            .arg(BENCH_GUARD)
            .args(["--group", &group.to_string()])
            .args(["--timeout-ms", &timeout.as_millis().to_string()])
            .stdin(Stdio::from(OwnedFd::from(theirs)))
            .stdout(Stdio::from(lock.share().map_err(GuardError::Start)?))
            // It may outlive us, and then nobody reads that.
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
        // Our copies of what only it shall have are in here.
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

    /// Says that we are there.
    ///
    /// # Errors
    ///
    /// [`GuardError::Gone`], if it is not.
    pub fn beat(&mut self) -> Result<(), GuardError> {
        self.say(GuardRequest::Alive)
    }

    /// Asks it to make the group `mode`, and waits for what comes of that. `tick` is called meanwhile.
    pub fn make(&mut self, mode: Mode, tick: &mut dyn FnMut()) -> Result<GuardReply, GuardError> {
        self.say(GuardRequest::Make(mode))?;
        self.answer(tick)
    }

    /// Asks it to put the type back and to end.
    ///
    /// # Errors
    ///
    /// [`GuardError`]. One that is silent goes on without us.
    pub fn end(mut self) -> Result<End, GuardError> {
        self.say(GuardRequest::End)?;
        loop {
            match self.answer(&mut || {})? {
                GuardReply::Ended {
                    whole,
                    message,
                    warnings,
                } => {
                    // It has nothing left to do but to end.
                    let _ = self.child.wait();
                    return Ok(End {
                        whole,
                        message,
                        warnings,
                    });
                }
                // To a question that we did not wait for.
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
                // The raw errno: nothing came in time, or a signal did.
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

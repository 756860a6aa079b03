// SPDX-License-Identifier: GPL-2.0-only
//! One lock for everything that changes a group: `/run/iommuctl/lock`.
//!
//! It is an open file description lock (`F_OFD_SETLK`, fcntl(2)), which copies of the handle share: a child process that still
//! waits for the kernel keeps the lock after its parent was killed, so `recover` does not start before the kernel is done. The
//! kernel releases it with the last holder, however that ends.
//!
//! A waiting process holds a shared lock on `/run/iommuctl/lock-wanted`. A holder that can stop early, such as a bench, polls
//! that ([`Lock::is_wanted`]) and yields.

use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::errno::Errno;
use serde::{Deserialize, Serialize};

use crate::sys::error::{errno, OsError};
use crate::sys::ofd_lock::{is_locked, try_lock, try_lock_shared, unlock};
use crate::sys::printable::printable;
use crate::sys::private_dir::{PrivateDir, PrivateDirError};

const NAME: &str = "lock";
/// The file on which all waiting processes hold a shared lock.
const WANTED: &str = "lock-wanted";
/// The first delay between two attempts: most holders are done in a moment.
const FIRST_RETRY_INTERVAL: Duration = Duration::from_micros(200);
/// The longest delay between two attempts; each delay is twice the one before.
const MAX_RETRY_INTERVAL: Duration = Duration::from_millis(50);

/// The holder of the lock, as it describes itself in the file.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its process id.
    pub pid: u32,
    /// Its command line.
    pub command: String,
    /// When it took the lock, in seconds since 1970.
    pub since: u64,
}

impl Holder {
    fn new(command: &str) -> Self {
        Self {
            pid: std::process::id(),
            command: command.to_owned(),
            since: seconds_since_1970(),
        }
    }

    /// Describes the holder: `process 77 (iommuctl set-mode all DMA), for 12 s`.
    #[must_use]
    pub fn describe(&self) -> String {
        let age = seconds_since_1970().saturating_sub(self.since);
        let command = printable(&self.command);
        format!("process {} ({command}), for {age} s", self.pid)
    }
}

fn seconds_since_1970() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.map_or(0, |d| d.as_secs())
}

/// The lock could not be taken.
#[derive(Debug, thiserror::Error)]
pub enum LockError {
    /// Another process holds it.
    #[error("another iommuctl is changing something: {0}")]
    Held(String),
    /// The lock file cannot be used.
    #[error(transparent)]
    Run(#[from] PrivateDirError),
}

/// The lock of a change, held by this process.
///
/// # Invariants
///
/// Until the handle and all its copies are closed, nobody else holds the lock.
#[derive(Debug)]
pub struct Lock {
    file: File,
}

impl Lock {
    /// Takes the lock for `command`. While another process holds it, retries until `timeout` is over; `waiting` is called once,
    /// with the holder, before the first wait.
    ///
    /// # Errors
    ///
    /// [`LockError::Held`] when `timeout` is over, [`LockError::Run`] if the lock file cannot be used.
    pub fn take(
        run: &PrivateDir,
        command: &str,
        timeout: Duration,
        waiting: impl FnOnce(&str),
    ) -> Result<Self, LockError> {
        let file = run.open(NAME)?;
        let begin = Instant::now();
        let mut waiting = Some(waiting);
        let mut _queued = None;
        let mut again = FIRST_RETRY_INTERVAL;
        while !try_lock(&file).map_err(|errno| failed(run, "lock", errno))? {
            let holder = holder(run);
            if begin.elapsed() >= timeout {
                return Err(LockError::Held(holder));
            }
            if let Some(waiting) = waiting.take() {
                waiting(&holder);
                // Ignore the error: a bench that does not see us waiting only holds the lock for longer.
                _queued = queue(run);
            }
            std::thread::sleep(again.min(timeout.saturating_sub(begin.elapsed())));
            again = again.saturating_mul(2).min(MAX_RETRY_INTERVAL);
        }
        // INVARIANT: the kernel has just granted the lock to this open file.
        let lock = Self { file };
        lock.sign(command)
            .map_err(|error| failed(run, "write", errno(&error)))?;
        Ok(lock)
    }

    /// Whether a process holds the lock. Creates no file.
    pub fn is_held(run: &PrivateDir) -> Result<bool, PrivateDirError> {
        is_locked_by_somebody(run, NAME)
    }

    /// Describes the process `pid`, with its command line if it was the last one to take the lock.
    #[must_use]
    pub fn describe(run: &PrivateDir, pid: u32) -> String {
        match signature(run) {
            Some(holder) if holder.pid == pid => holder.describe(),
            _ => format!("process {pid}"),
        }
    }

    /// Whether a process waits for the lock. Creates no file.
    pub fn is_wanted(run: &PrivateDir) -> Result<bool, PrivateDirError> {
        is_locked_by_somebody(run, WANTED)
    }

    /// Releases the lock for every copy of the handle.
    pub fn let_go(&self) -> nix::Result<()> {
        unlock(&self.file)
    }

    /// The lock of which `handle` is a copy, in a child that was started with it.
    #[must_use]
    pub fn inherited(handle: OwnedFd) -> Self {
        // INVARIANT: the parent held the lock, and a copy of the handle shares it.
        let file = File::from(handle);
        Self { file }
    }

    /// Writes the holder into the lock file.
    fn sign(&self, command: &str) -> std::io::Result<()> {
        let text = serde_json::to_vec(&Holder::new(command))?;
        self.file.set_len(0)?;
        self.file.write_all_at(&text, 0)
    }

    /// Duplicates the handle, for a child that is to hold the lock too.
    pub fn share(&self) -> std::io::Result<OwnedFd> {
        self.file.try_clone().map(OwnedFd::from)
    }
}

fn failed(run: &PrivateDir, verb: &'static str, errno: Errno) -> LockError {
    let path = run.display(NAME);
    LockError::Run(PrivateDirError::Os(OsError { verb, path, errno }))
}

/// Whether a process has locked the file `name`, exclusively or shared.
fn is_locked_by_somebody(run: &PrivateDir, name: &str) -> Result<bool, PrivateDirError> {
    let file = match run.open_to_read(name) {
        Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(false),
        other => other?,
    };
    is_locked(&file).map_err(|errno| {
        PrivateDirError::Os(OsError {
            verb: "look at the lock of",
            path: run.display(name),
            errno,
        })
    })
}

/// Takes the shared lock of a waiting process, until the returned file is closed.
fn queue(run: &PrivateDir) -> Option<File> {
    let file = run.open(WANTED).ok()?;
    try_lock_shared(&file).ok()?.then_some(file)
}

/// Describes the holder. The file may be half written, or still be that of the previous holder.
fn holder(run: &PrivateDir) -> String {
    signature(run).map_or_else(
        || "it has not said who it is yet".to_owned(),
        |h| h.describe(),
    )
}

fn signature(run: &PrivateDir) -> Option<Holder> {
    let bytes = run.read(NAME).ok().flatten()?;
    serde_json::from_slice(&bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_dir;

    #[test]
    fn second_one_is_told_who_has_it() {
        let (_root, run) = run_dir();
        let _lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
        let mut told = String::new();
        let again = Lock::take(
            &run,
            "iommuctl second",
            Duration::from_millis(150),
            |holder| {
                told = holder.to_owned();
            },
        );
        let error = again.unwrap_err().to_string();
        let me = format!("process {} (iommuctl first), for ", std::process::id());
        assert!(error.contains(&me), "{error}");
        assert!(told.contains("iommuctl first"), "{told}");
    }

    #[test]
    fn who_waits_a_moment_is_there_a_moment_later() {
        let (_root, run) = run_dir();
        // The machine may be busy: one time of many is enough.
        let is_soon = |_| {
            let lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
            let begin = Instant::now();
            std::thread::scope(|scope| {
                scope.spawn(|| {
                    std::thread::sleep(Duration::from_millis(2));
                    drop(lock);
                });
                let timeout = Duration::from_secs(20);
                Lock::take(&run, "iommuctl second", timeout, |_| {}).unwrap();
            });
            begin.elapsed() < Duration::from_millis(40)
        };
        assert!((0..20).any(is_soon));
    }

    #[test]
    fn a_copy_of_the_handle_keeps_it() {
        let (_root, run) = run_dir();
        let lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
        let copy = lock.share().unwrap();
        drop(lock);
        let take = || Lock::take(&run, "iommuctl second", Duration::ZERO, |_| {});
        assert!(matches!(take(), Err(LockError::Held(_))));
        drop(copy);
        assert!(take().is_ok());
    }

    #[test]
    fn who_has_it_can_see_that_others_wait() {
        let (_root, run) = run_dir();
        let _lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
        assert!(!Lock::is_wanted(&run).unwrap());
        std::thread::scope(|scope| {
            for name in ["second", "third"] {
                let run = &run;
                scope.spawn(move || Lock::take(run, name, Duration::from_millis(600), |_| {}));
            }
            std::thread::sleep(Duration::from_millis(250));
            assert!(Lock::is_wanted(&run).unwrap());
        });
        assert!(!Lock::is_wanted(&run).unwrap());
    }

    #[test]
    fn who_lets_go_lets_go_for_all_copies() {
        let (_root, run) = run_dir();
        let lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
        let copy = Lock::inherited(lock.share().unwrap());
        copy.let_go().unwrap();
        assert!(!Lock::is_held(&run).unwrap());
    }

    #[test]
    fn a_process_is_described_by_its_own_word_alone() {
        let (_root, run) = run_dir();
        let _lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
        let me = std::process::id();
        assert!(Lock::describe(&run, me).contains("(iommuctl first)"));
        assert_eq!(Lock::describe(&run, me + 1), format!("process {}", me + 1));
    }

    #[test]
    fn torn_word_of_the_holder_is_no_trouble() {
        let (_root, run) = run_dir();
        let lock = Lock::take(&run, "iommuctl first", Duration::ZERO, |_| {}).unwrap();
        lock.file.set_len(5).unwrap();
        let again = Lock::take(&run, "iommuctl second", Duration::ZERO, |_| {});
        assert!(again.unwrap_err().to_string().contains("has not said"));
    }
}

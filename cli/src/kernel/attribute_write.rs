// SPDX-License-Identifier: GPL-2.0-only
//! Writes to attributes of the kernel, with a time limit.
//!
//! The writes are made by a child process, the same program with the argument `write-texts`. A thread would not do: the kernel
//! waits uninterruptibly for the group's mutex, for a driver to let go of its device, and, with an older `iommu_live`, for RCU
//! grace periods; and a process cannot end before each of its threads has left the kernel. With a thread, a command could
//! report a timeout in time, but not return to the shell. A child is left behind instead, and ends when the kernel is done.
//!
//! One child makes many writes, one after the other: most take the kernel some tens of microseconds, and starting a process
//! takes a millisecond. It can be started before the first write: it does nothing unrequested, and ends when the parent closes
//! the socket.
//!
//! Its standard output is the open root of the file system, below which it writes. Its standard error is a socket: each write
//! comes in as one line, and one line goes out, with the errno and the duration in nanoseconds. Its standard input is only kept
//! open: it is a copy of the lock's handle, so that the next command waits for the kernel even if this process is killed.
//!
//! It has a process group of its own and blocks the termination signals. Otherwise Ctrl-C would end it right after a write, and
//! the result would be lost.

use std::ffi::OsString;
use std::io::{self, BufRead, BufReader, Write as _};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use serde::{Deserialize, Serialize};

use super::procfs::Proc;
use crate::exit::Exit;
use crate::kernel::process::Process;
use crate::sys::kernfs::{open_to_write, KernFs};
use crate::sys::signals;

/// The argument that selects the child's part of the program.
const CHILD_ARGUMENT: &str = "write-texts";
/// The longest reply of the child, in bytes.
const ANSWER_LIMIT: usize = 64;

/// The result of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The kernel accepted it after this long.
    Accepted(Duration),
    /// The kernel answered with an errno after this long.
    Rejected(Errno, Duration),
    /// The time limit is over, and the kernel still works on it.
    StillWorking,
    /// The child process could not be started, or did not reply.
    Broken(String),
}

/// A write request to the child.
#[derive(Debug, Serialize, Deserialize)]
struct Request<'a> {
    /// The path of the attribute, relative to the root of the file system.
    path: std::borrow::Cow<'a, str>,
    /// The text, without the newline.
    text: std::borrow::Cow<'a, str>,
}

/// A running child process that makes writes.
#[derive(Debug)]
pub struct WriteHelper {
    child: Child,
    socket: UnixStream,
    writer: Option<Process>,
    /// Whether it is still busy with a write that timed out, or does not reply.
    lost: bool,
}

impl WriteHelper {
    /// Starts a child for attributes in `tree`. It keeps `keep` open while it runs, and so while the kernel works on one of its
    /// writes.
    pub fn start(tree: &KernFs, keep: Option<OwnedFd>) -> Result<Self, String> {
        // Use /proc/self/exe: during a package upgrade, the program's path is another program, or missing.
        let mut command = Command::new(Path::new("/proc/self/exe"));
        command.arg(CHILD_ARGUMENT);
        command.stdin(keep.map_or_else(Stdio::null, Stdio::from));
        let root = tree.handle().try_clone_to_owned();
        let root = root.map_err(|error| format!("Failed to share the tree: {error}"))?;
        Self::supervise(command, root)
    }

    fn supervise(mut command: Command, root: OwnedFd) -> Result<Self, String> {
        let failed = |error: io::Error| format!("Failed to start /proc/self/exe: {error}");
        let (socket, theirs) = UnixStream::pair().map_err(failed)?;
        command.process_group(0);
        command.stdout(root);
        command.stderr(OwnedFd::from(theirs));
        let child = command.spawn().map_err(failed)?;
        // Close our copy of the child's end of the socket, so that we see end of file when the child is gone.
        drop(command);
        // The process id stays valid until the child is waited for.
        let writer = identify(child.id());
        Ok(Self {
            child,
            socket,
            writer,
            lost: false,
        })
    }

    /// The process that makes the writes, for the audit: the kernel's events name this one.
    #[must_use]
    pub fn writer(&self) -> Option<Process> {
        self.writer
    }

    /// Whether it can take no further writes.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.lost
    }

    /// Writes `text` and a newline into the attribute at `path`, and waits for at most `timeout`.
    pub fn write(&mut self, path: &str, text: &str, timeout: Duration) -> Written {
        let begin = Instant::now();
        let written = self
            .ask(path, text)
            .and_then(|()| self.answer(begin, timeout));
        match written {
            Ok(written) => {
                self.lost = written == Written::StillWorking;
                written
            }
            Err(why) => {
                self.lost = true;
                let status = self.child.try_wait();
                Written::Broken(match status {
                    Ok(Some(status)) => format!("{why} ({status})"),
                    _ => why,
                })
            }
        }
    }

    fn ask(&mut self, path: &str, text: &str) -> Result<(), String> {
        let request = Request {
            path: path.into(),
            text: text.into(),
        };
        let mut line = serde_json::to_vec(&request).map_err(|e| e.to_string())?;
        line.push(b'\n');
        self.socket
            .write_all(&line)
            .map_err(|error| format!("the child process cannot be asked: {error}"))
    }

    fn answer(&mut self, begin: Instant, timeout: Duration) -> Result<Written, String> {
        let mut line = Vec::new();
        while !line.ends_with(b"\n") {
            if !self.is_ready(begin, timeout)? {
                return Ok(Written::StillWorking);
            }
            let mut bytes = [0; ANSWER_LIMIT];
            let count = io::Read::read(&mut self.socket, &mut bytes).unwrap_or(0);
            line.extend(bytes.iter().take(count));
            // Reject a longer line: the child replies with one short line.
            if count == 0 || line.len() > ANSWER_LIMIT {
                return Err("the child process did not answer".to_owned());
            }
        }
        match parse(&String::from_utf8_lossy(&line)) {
            Some((Errno::UnknownErrno, took)) => Ok(Written::Accepted(took)),
            Some((errno, took)) => Ok(Written::Rejected(errno, took)),
            None => Err("the child process did not answer".to_owned()),
        }
    }

    /// Waits for data to read; `false` on a timeout.
    fn is_ready(&self, begin: Instant, timeout: Duration) -> Result<bool, String> {
        loop {
            let left = timeout.saturating_sub(begin.elapsed());
            // Add a millisecond: the timeout is rounded down, and poll(2) would spin through the last one.
            let left = PollTimeout::try_from(left.as_millis().saturating_add(1))
                .unwrap_or(PollTimeout::MAX);
            let mut fds = [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)];
            match poll(&mut fds, left) {
                Ok(0) if begin.elapsed() >= timeout => return Ok(false),
                Ok(0) | Err(Errno::EINTR | Errno::EAGAIN) => {}
                Ok(_) => return Ok(true),
                Err(errno) => return Err(format!("Failed to wait: {}", errno.desc())),
            }
        }
    }
}

impl Drop for WriteHelper {
    fn drop(&mut self) {
        // The socket is closed, so the child ends. Wait for it, so that its copy of the lock is gone when we report that all is
        // done; but not while the kernel holds it up.
        let _ = self.socket.shutdown(std::net::Shutdown::Both);
        let _ = match self.lost {
            true => self.child.try_wait(),
            false => self.child.wait().map(Some),
        };
    }
}

fn identify(pid: u32) -> Option<Process> {
    let started = Proc::open(None).ok()?.started(pid)?;
    Some(Process { pid, started })
}

/// Parses the child's reply: an errno (0 for success) and nanoseconds.
fn parse(text: &str) -> Option<(Errno, Duration)> {
    let (errno, nanoseconds) = text.trim_end().split_once(' ')?;
    let errno = Errno::from_raw(errno.parse().ok()?);
    Some((errno, Duration::from_nanos(nanoseconds.parse().ok()?)))
}

/// Whether these are the arguments of a child.
#[must_use]
pub fn is_asked_to_write(mut arguments: impl Iterator<Item = OsString>) -> bool {
    arguments.nth(1).is_some_and(|word| word == CHILD_ARGUMENT) && arguments.next().is_none()
}

/// Runs the child's part: one write for each line, until the parent closes the socket.
#[must_use]
pub fn child() -> Exit {
    // Ignore the error: if the signals cannot be blocked, writing is still the best option.
    let _ = signals::hold_back();
    // Set the name: the program was started as /proc/self/exe, and the kernel would report the writer as `exe`.
    let _ = nix::sys::prctl::set_name(c"iommuctl");
    let Ok(socket) = io::stderr().as_fd().try_clone_to_owned() else {
        return Exit::Failed;
    };
    let mut questions = BufReader::new(UnixStream::from(socket));
    let mut line = Vec::new();
    loop {
        line.clear();
        match questions.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => {}
            Ok(0) => return Exit::Done,
            _ => return Exit::Failed,
        }
        let Ok(request) = serde_json::from_slice::<Request<'_>>(&line) else {
            return Exit::Failed;
        };
        let begin = Instant::now();
        let result = make(&request);
        let took = begin.elapsed().as_nanos();
        let errno = result.map_or_else(|errno| errno as i32, |()| 0);
        let answer = format!("{errno} {took}\n");
        if questions.get_mut().write_all(answer.as_bytes()).is_err() {
            return Exit::Failed;
        }
    }
}

fn make(request: &Request<'_>) -> nix::Result<()> {
    let text = format!("{}\n", request.text);
    let file = open_to_write(io::stdout(), &request.path)?;
    // Use a single write(2): the kernel takes the value of an attribute from one call.
    match nix::unistd::write(&file, text.as_bytes())? {
        n if n == text.len() => Ok(()),
        _ => Err(Errno::EIO),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A child that does what `script` says when it was asked for a write.
    fn shell(script: &str) -> (WriteHelper, tempfile::TempDir) {
        let folder = tempfile::tempdir().unwrap();
        let root = OwnedFd::from(std::fs::File::open(folder.path()).unwrap());
        let mut command = Command::new("sh");
        command.args(["-c", &format!("read line <&2; {script}")]);
        let helper = WriteHelper::supervise(command, root).unwrap();
        assert!(helper.writer().is_some());
        (helper, folder)
    }

    fn ask(helper: &mut WriteHelper, timeout: Duration) -> Written {
        helper.write("a", "DMA", timeout)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn only_the_child_is_told_so() {
        let told = |words: &[&str]| is_asked_to_write(words.iter().map(OsString::from));
        assert!(told(&["iommuctl", "write-texts"]));
        assert!(!told(&["iommuctl", "write-texts", "more"]));
        assert!(!told(&["iommuctl", "list"]));
        assert!(!told(&["iommuctl"]));
    }

    #[test]
    fn answers_are_the_kernels() {
        let (mut helper, _folder) = shell("echo 0 1500 >&2; read line <&2; echo 1 7 >&2");
        assert_eq!(
            ask(&mut helper, LONG),
            Written::Accepted(Duration::from_nanos(1500))
        );
        assert_eq!(
            ask(&mut helper, LONG),
            Written::Rejected(Errno::EPERM, Duration::from_nanos(7))
        );
        assert!(!helper.is_lost());
    }

    #[test]
    fn time_runs_out_while_the_kernel_works() {
        let begin = Instant::now();
        let (mut helper, _folder) = shell("exec sleep 3");
        assert_eq!(
            ask(&mut helper, Duration::from_millis(100)),
            Written::StillWorking
        );
        // It is left behind.
        assert!(helper.is_lost());
        drop(helper);
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn silent_child_is_not_success() {
        let long = format!("echo {} >&2", "1".repeat(2 * ANSWER_LIMIT));
        for script in ["exit 0", "echo hello >&2", "kill -9 $$", &long] {
            let (mut helper, _folder) = shell(script);
            let written = ask(&mut helper, LONG);
            assert!(matches!(written, Written::Broken(_)), "{script}");
            assert!(helper.is_lost(), "{script}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Writing into an attribute of the kernel, with a limit to how long we wait for it.
//!
//! The write is made by a child process, the same program with `write-text TEXT` for arguments. A thread would not do:
//! the kernel waits uninterruptibly for the group's mutex, for RCU grace periods, for a driver to let go of its device,
//! and a process cannot end before every one of its threads has left the kernel. With a thread, `--timeout` could say in
//! time that it is over, but not return to the shell. A child is left behind instead, and ends when the kernel is done.
//!
//! The child gets the open attribute as its standard output. So the attribute is opened in one place, by this process,
//! and the child needs neither a path nor a root. On standard error it answers with the errno and the nanoseconds the
//! write took. What it gets as standard input it only keeps open: a handle of the lock, where the next writer must wait
//! for the kernel even if this process is killed.
//!
//! It is in a process group of its own, and takes no notice of the signals that ask a program to end. Otherwise Ctrl-C
//! would end it right after the write, and nobody would learn what the kernel answered.

use std::ffi::OsString;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::procfs::Proc;
use crate::exit::Exit;
use crate::kernel::process::Process;
use crate::sys::signals;

/// What the child is told by, before the text.
const CHILD: &str = "write-text";

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Written {
    /// The kernel accepted it after this long.
    Accepted(Duration),
    /// The kernel answered with an errno after this long.
    Rejected(Errno, Duration),
    /// The kernel was not done in time, and still works on it.
    StillWorking,
    /// The child process could not be started, or did not answer.
    Broken(String),
}

/// What came of a write, and which process made it; `None` if that could not be started.
pub type Answer = (Written, Option<Process>);

/// Writes `text` and a newline into the open attribute `file`, and waits for at most `timeout`. `keep` stays open for
/// as long as the kernel works on it.
#[must_use]
pub fn write(file: OwnedFd, text: &str, timeout: Duration, keep: Option<OwnedFd>) -> Answer {
    // Not the path of the program: that is another program, or none, while a package is being upgraded.
    let mut command = Command::new(Path::new("/proc/self/exe"));
    command.args([CHILD, text]);
    command.stdin(keep.map_or_else(Stdio::null, Stdio::from));
    supervise(command, file, timeout)
}

fn supervise(mut command: Command, file: OwnedFd, timeout: Duration) -> Answer {
    let begin = Instant::now();
    command.process_group(0);
    command.stdout(file);
    command.stderr(Stdio::piped());
    let child = command.spawn();
    // Only the child shall hold the attribute open from here on: an open attribute keeps the group's object alive.
    drop(command);
    match child {
        Ok(child) => {
            // It has its number until it was waited for.
            let writer = identify(child.id());
            (wait(child, begin, timeout), writer)
        }
        Err(error) => {
            let why = format!("Failed to start /proc/self/exe: {error}");
            (Written::Broken(why), None)
        }
    }
}

/// For the audit: what the kernel says of the same write names the process so.
fn identify(pid: u32) -> Option<Process> {
    let started = Proc::open(None).ok()?.started(pid)?;
    Some(Process { pid, started })
}

fn wait(mut child: Child, begin: Instant, timeout: Duration) -> Written {
    let Some(answer) = child.stderr.take() else {
        return Written::Broken("the child process has no pipe".to_owned());
    };
    let answer = File::from(OwnedFd::from(answer));
    loop {
        let left = timeout.saturating_sub(begin.elapsed());
        // One millisecond more than is left: poll rounds down, and would spin through the last one.
        let left =
            PollTimeout::try_from(left.as_millis().saturating_add(1)).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(answer.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) if begin.elapsed() >= timeout => return Written::StillWorking,
            Ok(0) | Err(Errno::EINTR | Errno::EAGAIN) => {}
            Ok(_) => break,
            Err(errno) => return Written::Broken(format!("Failed to wait: {}", errno.desc())),
        }
    }
    let mut text = String::new();
    // The child writes one short line and ends; whatever is longer than that is not from it.
    let read = answer.take(4096).read_to_string(&mut text);
    let status = child.wait();
    match (read, parse(&text)) {
        (Ok(_), Some((Errno::UnknownErrno, took))) => Written::Accepted(took),
        (Ok(_), Some((errno, took))) => Written::Rejected(errno, took),
        _ => Written::Broken(match status {
            Ok(status) => format!("the child process did not answer ({status})"),
            Err(error) => format!("the child process was lost: {error}"),
        }),
    }
}

/// The child's answer: an errno (0 for success) and nanoseconds.
fn parse(text: &str) -> Option<(Errno, Duration)> {
    let (errno, nanoseconds) = text.trim_end().split_once(' ')?;
    let errno = Errno::from_raw(errno.parse().ok()?);
    Some((errno, Duration::from_nanos(nanoseconds.parse().ok()?)))
}

/// The text, if these are the arguments of the child.
#[must_use]
pub fn asked_to_write(mut arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let command = arguments.nth(1)?;
    let text = arguments.next()?;
    let alone = arguments.next().is_none();
    (command == CHILD && alone)
        .then(|| text.into_string().ok())
        .flatten()
}

/// The child's part: one write of `text` and a newline to standard output, and the answer on standard error.
#[must_use]
pub fn child(text: &str) -> Exit {
    // If they cannot be held back, the write is still the best that can be done.
    let _ = signals::hold_back();
    // It was started as /proc/self/exe, and would be called `exe` where the kernel names the writer.
    let _ = nix::sys::prctl::set_name(c"iommuctl");
    let text = format!("{text}\n");
    let begin = Instant::now();
    let result = nix::unistd::write(std::io::stdout(), text.as_bytes());
    let took = begin.elapsed().as_nanos();
    let errno = match result {
        Ok(n) if n == text.len() => 0,
        // The kernel takes an attribute whole or not at all.
        Ok(_) => Errno::EIO as i32,
        Err(errno) => errno as i32,
    };
    let answer = format!("{errno} {took}\n");
    match nix::unistd::write(std::io::stderr(), answer.as_bytes()) {
        Ok(_) if errno == 0 => Exit::Done,
        _ => Exit::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> (Written, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        let mut command = Command::new("sh");
        command.arg("-c").arg(script);
        let fd = OwnedFd::from(file.as_file().try_clone().unwrap());
        let (written, writer) = supervise(command, fd, timeout);
        assert!(writer.is_some());
        (written, std::fs::read_to_string(file.path()).unwrap())
    }

    #[test]
    fn only_the_child_is_told_so() {
        let told = |words: &[&str]| asked_to_write(words.iter().map(OsString::from));
        assert_eq!(told(&["iommuctl", "write-text", "DMA"]), Some("DMA".into()));
        assert_eq!(told(&["iommuctl", "write-text"]), None);
        assert_eq!(told(&["iommuctl", "write-text", "DMA", "more"]), None);
        assert_eq!(told(&["iommuctl", "list", "DMA"]), None);
    }

    #[test]
    fn answer_and_attribute_go_separate_ways() {
        let (written, text) = shell("echo DMA; echo 0 1500 >&2", Duration::from_secs(20));
        assert_eq!(text, "DMA\n");
        assert_eq!(written, Written::Accepted(Duration::from_nanos(1500)));
        let (written, _) = shell("echo 1 7 >&2; exit 1", Duration::from_secs(20));
        assert_eq!(
            written,
            Written::Rejected(Errno::EPERM, Duration::from_nanos(7))
        );
    }

    #[test]
    fn time_runs_out_while_the_kernel_works() {
        let begin = Instant::now();
        let (written, _) = shell("exec sleep 3", Duration::from_millis(100));
        assert_eq!(written, Written::StillWorking);
        assert!(begin.elapsed() < Duration::from_secs(2));
    }

    #[test]
    fn silent_child_is_not_success() {
        for script in ["exit 0", "echo hello >&2", "kill -9 $$"] {
            let (written, _) = shell(script, Duration::from_secs(20));
            assert!(matches!(written, Written::Broken(_)), "{script}");
        }
    }
}

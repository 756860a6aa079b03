// SPDX-License-Identifier: GPL-2.0-only
//! Runs another program, with limits on its time and output.
//!
//! For programs that only report something, such as modinfo(8). Each runs without standard input and without a shell, in a
//! fixed environment, with a limit on its time and output; beyond either, its whole process group is killed. Standard error is
//! discarded.

use std::cell::RefCell;
use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};
use nix::sys::signal::{killpg, Signal};
use nix::unistd::Pid;

use super::error::{errno, OsError};
use super::printable::printable_lines;

/// The `PATH` of the programs that are run.
const PATH: &str = "/usr/sbin:/usr/bin:/sbin:/bin";
/// The largest output that is read, in bytes: more than the file list of any initramfs.
const MAX_OUTPUT: usize = 16 * 1024 * 1024;
/// How often a child that has closed its standard output is polled for its exit.
const POLL_INTERVAL: Duration = Duration::from_millis(2);

/// A program that ended by itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Completed {
    /// Its exit code.
    pub code: i32,
    /// Its standard output, without control characters that a terminal would act on.
    pub text: String,
}

/// A program that could not be run, or did not end by itself within its limits.
#[derive(Debug, thiserror::Error)]
pub enum SubprocessError {
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
    /// It timed out.
    #[error("{program} took longer than {} s", timeout.as_secs())]
    Late {
        /// The program.
        program: String,
        /// The time limit.
        timeout: Duration,
    },
    /// Its output exceeds the limit.
    #[error("{0} says more than {MAX_OUTPUT} bytes")]
    TooMuch(String),
    /// A signal ended it.
    #[error("{program} was ended by signal {signal}")]
    Killed {
        /// The program.
        program: String,
        /// The signal.
        signal: i32,
    },
}

/// Runs programs, and does not run one again that timed out: it would most likely time out again, and the waits would add up.
#[derive(Debug, Default)]
pub struct Subprocesses {
    late: RefCell<Vec<PathBuf>>,
}

impl Subprocesses {
    /// Like [`run`], but fails at once for a program that timed out before.
    pub fn run(
        &self,
        program: &Path,
        args: &[&str],
        timeout: Duration,
    ) -> Result<Completed, SubprocessError> {
        if self.was_late(program) {
            let program = program.display().to_string();
            return Err(SubprocessError::Late { program, timeout });
        }
        let completed = run(program, args, timeout);
        if matches!(completed, Err(SubprocessError::Late { .. })) {
            self.late.borrow_mut().push(program.to_owned());
        }
        completed
    }

    /// Whether `program` timed out before.
    #[must_use]
    pub fn was_late(&self, program: &Path) -> bool {
        self.late.borrow().iter().any(|late| late == program)
    }
}

/// Runs `program` with `args` for at most `timeout`.
///
/// # Errors
///
/// [`SubprocessError`], if it does not end by itself. An exit code other than 0 is no error.
pub fn run(program: &Path, args: &[&str], timeout: Duration) -> Result<Completed, SubprocessError> {
    let begin = Instant::now();
    let failed = |verb, errno| {
        SubprocessError::Os(OsError {
            verb,
            path: program.display().to_string(),
            errno,
        })
    };
    let spawned = Command::new(program)
        .args(args)
        .env_clear()
        .env("PATH", PATH)
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        // A process group of its own, so that killpg(3) also ends what it started.
        .process_group(0)
        .spawn();
    let mut child = spawned.map_err(|error| failed("run", errno(&error)))?;
    let heard = listen(&mut child, begin, timeout).and_then(|bytes| {
        let status = end(&mut child, begin, timeout)?;
        Ok((bytes, status))
    });
    if heard.is_err() {
        // Ignore the error: the process group may be gone already.
        if let Ok(pid) = i32::try_from(child.id()) {
            let _ = killpg(Pid::from_raw(pid), Signal::SIGKILL);
        }
        let _ = child.wait();
    }
    let shown = || program.display().to_string();
    let (bytes, status) = heard.map_err(|trouble| match trouble {
        Trouble::Errno(errno) => failed("hear from", errno),
        Trouble::Late => SubprocessError::Late {
            program: shown(),
            timeout,
        },
        Trouble::TooMuch => SubprocessError::TooMuch(shown()),
    })?;
    match (status.code(), status.signal()) {
        (Some(code), _) => Ok(Completed {
            code,
            text: printable_lines(&String::from_utf8_lossy(&bytes)),
        }),
        (None, signal) => Err(SubprocessError::Killed {
            program: shown(),
            signal: signal.unwrap_or_default(),
        }),
    }
}

enum Trouble {
    Errno(Errno),
    Late,
    TooMuch,
}

/// Reads the output of `child` until it closes its standard output.
fn listen(child: &mut Child, begin: Instant, timeout: Duration) -> Result<Vec<u8>, Trouble> {
    let Some(pipe) = child.stdout.take() else {
        return Ok(Vec::new());
    };
    let mut pipe = File::from(OwnedFd::from(pipe));
    let (mut bytes, mut part) = (Vec::new(), [0; 64 * 1024]);
    loop {
        let left = timeout.saturating_sub(begin.elapsed());
        let left = PollTimeout::try_from(left.as_millis()).unwrap_or(PollTimeout::MAX);
        let mut fds = [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)];
        match poll(&mut fds, left) {
            Ok(0) => return Err(Trouble::Late),
            Err(Errno::EINTR | Errno::EAGAIN) => continue,
            Err(errno) => return Err(Trouble::Errno(errno)),
            Ok(_) => {}
        }
        match pipe.read(&mut part) {
            Ok(0) => return Ok(bytes),
            Ok(n) => bytes.extend_from_slice(part.get(..n).unwrap_or_default()),
            Err(error) => return Err(Trouble::Errno(errno(&error))),
        }
        if bytes.len() > MAX_OUTPUT {
            return Err(Trouble::TooMuch);
        }
    }
}

/// Waits for `child` to exit.
fn end(child: &mut Child, begin: Instant, timeout: Duration) -> Result<ExitStatus, Trouble> {
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return Ok(status),
            Ok(None) if begin.elapsed() >= timeout => return Err(Trouble::Late),
            Ok(None) => std::thread::sleep(POLL_INTERVAL),
            Err(error) => return Err(Trouble::Errno(errno(&error))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, timeout: Duration) -> Result<Completed, SubprocessError> {
        run(Path::new("/bin/sh"), &["-c", script], timeout)
    }

    const LONG: Duration = Duration::from_secs(20);

    #[test]
    fn code_and_text_are_returned() {
        let completed = shell("echo yes; echo no >&2; exit 3", LONG).unwrap();
        let text = "yes\n".to_owned();
        assert_eq!(completed, Completed { code: 3, text });
    }

    #[test]
    fn environment_is_ours_and_nothing_reaches_a_terminal() {
        let completed = shell(r"env; printf '\033[31mred'; cat", LONG).unwrap();
        assert!(completed.text.contains("LC_ALL=C\n"), "{}", completed.text);
        assert!(!completed.text.contains("CARGO"), "{}", completed.text);
        assert!(completed.text.ends_with("?[31mred"), "{}", completed.text);
    }

    #[test]
    fn who_takes_too_long_is_killed_with_its_children() {
        let begin = Instant::now();
        for script in ["sleep 30 & sleep 30", "exec >&-; sleep 30"] {
            let error = shell(script, Duration::from_millis(200)).unwrap_err();
            assert!(
                matches!(error, SubprocessError::Late { .. }),
                "{script}: {error}"
            );
        }
        assert!(begin.elapsed() < Duration::from_secs(10));
    }

    #[test]
    fn a_program_that_timed_out_is_not_run_again() {
        let dir = tempfile::tempdir().unwrap();
        let runs = dir.path().join("runs");
        let subprocesses = Subprocesses::default();
        let shell = Path::new("/bin/sh");
        assert!(subprocesses.run(shell, &["-c", "true"], LONG).is_ok());
        let script = format!("echo once >> {}; sleep 60", runs.display());
        for _ in 0..2 {
            let completed = subprocesses.run(shell, &["-c", &script], Duration::from_secs(2));
            assert!(
                matches!(completed, Err(SubprocessError::Late { .. })),
                "{completed:?}"
            );
        }
        assert_eq!(std::fs::read_to_string(runs).unwrap(), "once\n");
        let other = subprocesses.run(Path::new("/bin/true"), &[], LONG);
        assert!(other.is_ok(), "{other:?}");
    }

    #[test]
    fn who_does_not_stop_talking_is_not_heard_out() {
        let error = shell("exec cat /dev/zero", LONG).unwrap_err();
        assert!(matches!(error, SubprocessError::TooMuch(_)), "{error}");
    }

    #[test]
    fn a_program_that_does_not_end_by_itself_is_an_error() {
        assert!(matches!(
            shell("kill -9 $$", LONG).unwrap_err(),
            SubprocessError::Killed { signal: 9, .. }
        ));
        let missing = run(Path::new("/nonexistent/program"), &[], LONG).unwrap_err();
        assert!(missing.to_string().contains("/nonexistent/program"));
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The guard of a bench: a process of its own that changes the type on request, and restores it at the end.
//!
//! It is the same program with the first argument `bench-guard`. Its standard input is a socket, over which requests come in
//! and replies go out. At the end of file, or if no request arrives for a while (a bench sends heartbeats), it restores the
//! type and ends. A bench that was suspended with Ctrl-Z, or whose threads hang in the kernel because the disk does not answer,
//! counts as gone. Its standard output is only kept open: it is a copy of the lock's handle, so that the lock is held until the
//! type is restored.
//!
//! It is in a session of its own and blocks the termination signals.

use std::io::{BufRead, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use iommuctl_policy::{DomainType, GroupId};
use nix::errno::Errno;

use super::journal::BenchJournal;
use super::protocol::GuardReply;
use super::protocol::{GuardRequest, BENCH_GUARD};
use super::restore::restore;
use crate::audit::event::BENCH;
use crate::audit::trail::Trail;
use crate::bench::mode::Mode;
use crate::change::live::Switch;
use crate::change::outcome::Outcome;
use crate::change::route::Allowed;
use crate::change::session::Session;
use crate::exit::Exit;
use crate::kernel::machine::{Context, Roots};
use crate::kernel::sysfs::Problems;
use crate::state::change_lock::Lock;
use crate::sys::private_dir::PrivateDir;
use crate::sys::signals;

/// Arguments of the process that puts the type back. It is no command that anybody is offered.
#[derive(Debug, clap::Parser)]
#[command(name = BENCH_GUARD)]
pub struct BenchGuardArgs {
    /// Where the machine is.
    #[command(flatten)]
    pub roots: Roots,
    /// The number of the group
    #[arg(long)]
    pub group: u32,
    /// How long to wait for the kernel, in milliseconds
    #[arg(long)]
    pub timeout_ms: u64,
}

/// How long the measuring process may be silent. Under a load that starves it this is too short, and the bench fails, but the
/// type is restored.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the measuring process may be silent while another process waits for the lock.
const WANTED_TIMEOUT: Duration = Duration::from_secs(2);
/// How often to check whether another process waits for the lock.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The state of the guard.
struct Guard<'a> {
    context: &'a Context,
    session: Session,
    journal: BenchJournal,
    now: Mode,
    timeout: Duration,
}

/// Runs the guard.
///
/// # Errors
///
/// An error, if it cannot start; nothing was changed then.
pub fn child(args: &BenchGuardArgs) -> anyhow::Result<Exit> {
    signals::hold_back().context("Failed to hold back signals")?;
    // Leave the terminal's session: its end is meant for the measuring process. It fails for a process group leader, which is
    // just as good.
    let _ = nix::unistd::setsid();
    // Set the name: the program was started as /proc/self/exe, and the kernel would report the writer as `exe`.
    let _ = nix::sys::prctl::set_name(c"iommuctl");
    let socket = std::io::stdin().as_fd().try_clone_to_owned();
    let socket = UnixStream::from(socket.context("Failed to open the socket")?);
    socket
        .set_read_timeout(Some(POLL_INTERVAL))
        .context("Failed to prepare the socket")?;
    let lock = std::io::stdout().as_fd().try_clone_to_owned();
    let lock = Lock::inherited(lock.context("Failed to open the lock")?);
    let context = Context::open(&args.roots)?;
    let run = PrivateDir::make(context.run_root.as_deref())?;
    let trail = Trail::begin(context.root.as_deref(), &context.proc)?;
    let group = context
        .sysfs
        .group(GroupId(args.group), &mut Problems::default())
        .context("The group has vanished")?;
    let now = group.domain_type.as_ref().and_then(Mode::of);
    let now = now.context("The group has another type now")?;
    let bench = u32::try_from(nix::unistd::getppid().as_raw()).unwrap_or(0);
    trail.cause(group.id, Some(BENCH));
    let journal = BenchJournal::new(&group, now, bench);
    journal.write(&run)?;
    let mut guard = Guard {
        context: &context,
        session: Session { run, lock, trail },
        journal,
        now,
        timeout: Duration::from_millis(args.timeout_ms),
    };
    Ok(guard.serve(&socket))
}

impl Guard<'_> {
    /// Handles requests until the end, and restores the type.
    fn serve(&mut self, socket: &UnixStream) -> Exit {
        let mut questions = BufReader::new(socket);
        say(socket, &GuardReply::Ready);
        let asked = loop {
            match ask(&mut questions, &self.session.run) {
                Some(GuardRequest::Alive) => {}
                Some(GuardRequest::Make(mode)) => say(socket, &self.make(mode)),
                Some(GuardRequest::End) => break true,
                None => break false,
            }
        };
        let restored = restore(self.context, &self.session, &self.journal, self.timeout);
        let whole = restored.is_whole();
        if whole && !asked {
            // Release the lock: a suspended bench still has its copy, and others have waited long enough. When it continues, it
            // finds the guard gone, and takes the lock again before it does anything. Ignore the error: the lock is then
            // released later.
            let _ = self.session.lock.let_go();
        }
        let message = restored.describe(self.journal.original);
        let warnings = self.session.trail.troubles();
        let ended = GuardReply::Ended {
            whole,
            message,
            warnings,
        };
        say(socket, &ended);
        match whole {
            true => Exit::Done,
            false => Exit::Failed,
        }
    }

    /// Makes the group `wanted`. The journal notes the change before it is made, and is reset only after the original type is
    /// back.
    fn make(&mut self, wanted: Mode) -> GuardReply {
        let id = self.journal.group();
        let found = self.context.sysfs.domain_type(id).ok().flatten();
        if found != Some(self.now.domain_type()) {
            // Somebody else has changed the type: the group is no longer ours to restore.
            return GuardReply::Foreign(
                found
                    .as_ref()
                    .map_or("unknown", DomainType::as_str)
                    .to_owned(),
            );
        }
        if wanted == self.now {
            return GuardReply::Made(None);
        }
        let failed = |message: String, unchanged| GuardReply::Failed {
            message,
            advice: Vec::new(),
            unchanged,
        };
        if wanted != self.journal.original {
            self.journal.switched = true;
            if let Err(error) = self.journal.write(&self.session.run) {
                self.journal.switched = false;
                return failed(error.to_string(), true);
            }
        }
        let switch = Switch {
            keep: Some(&self.session.lock),
            ..Switch::new(self.context, wanted.request(), Allowed::Live, self.timeout)
        };
        let results = switch.run(&[id].into(), &self.session.trail, |_| {});
        let Some(result) = results.into_iter().next() else {
            return failed("the group has vanished".to_owned(), false);
        };
        if result.outcome == Outcome::Changed {
            self.now = wanted;
            if wanted == self.journal.original {
                self.journal.switched = false;
                if let Err(error) = self.journal.write(&self.session.run) {
                    return failed(error.to_string(), false);
                }
            }
            return GuardReply::Made(result.milliseconds);
        }
        // After a timeout, the type is known only when the kernel has finished.
        let unchanged =
            result.outcome != Outcome::TimedOut && result.new_type == Some(self.now.domain_type());
        if unchanged && self.now == self.journal.original {
            self.journal.switched = false;
        }
        GuardReply::Failed {
            message: result.message.unwrap_or_else(|| "it failed".to_owned()),
            advice: result.advice,
            unchanged,
        }
    }
}

/// The next request; `None` at the end of file, after a timeout, or if the request is invalid.
fn ask(questions: &mut impl BufRead, run: &PrivateDir) -> Option<GuardRequest> {
    let begin = Instant::now();
    let mut line = Vec::new();
    loop {
        match questions.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => return serde_json::from_slice(&line).ok(),
            Ok(_) => return None,
            // Check the raw errno for a timeout. The part of a line that was read is kept.
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {
                // If the lock cannot be read, nobody counts as waiting.
                let wanted = matches!(Lock::is_wanted(run), Ok(true));
                let timeout = if wanted {
                    WANTED_TIMEOUT
                } else {
                    SILENCE_TIMEOUT
                };
                if begin.elapsed() >= timeout {
                    return None;
                }
            }
            Err(_) => return None,
        }
    }
}

/// Ignore the error: if the bench is gone, the next request does not arrive.
fn say(mut socket: &UnixStream, answer: &GuardReply) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        let _ = socket.write_all(&line);
    }
}

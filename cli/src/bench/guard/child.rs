// SPDX-License-Identifier: GPL-2.0-only
//! The guard of a bench: a process of its own that changes the type when it is asked to, and puts it back in the end.
//!
//! It is the same program with `bench-guard` for its first argument. What it gets as standard input is a socket: questions come in
//! and answers go out. When nobody is at the other end any more, or nothing comes for a while (a bench says every moment that it
//! is there), it puts the type back and ends. A bench that was stopped with Ctrl-Z, or whose threads the kernel does not let go
//! because the disk does not answer, is as good as gone. What it gets as standard output it only keeps open: a handle of the lock,
//! so that it stays our turn until the type is back.
//!
//! It is in a session of its own and takes no notice of the signals that ask a program to end.

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

/// How long the one that measures may be silent. Under a load that starves it this is too short, and the bench fails: the type is
/// back all the same.
const SILENCE_TIMEOUT: Duration = Duration::from_secs(10);
/// The same while another waits for our turn.
const WANTED_TIMEOUT: Duration = Duration::from_secs(2);
/// How often it is looked whether that is so.
const POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The guard, at work.
struct Guard<'a> {
    context: &'a Context,
    session: Session,
    journal: BenchJournal,
    now: Mode,
    timeout: Duration,
}

/// The child's part.
///
/// # Errors
///
/// If it cannot begin; nothing was changed then.
pub fn child(args: &BenchGuardArgs) -> anyhow::Result<Exit> {
    signals::hold_back().context("Failed to hold back signals")?;
    // Whoever closes the terminal or the session means the one that measures. It fails for the leader of a group, which is as good.
    let _ = nix::unistd::setsid();
    // It was started as /proc/self/exe, and would be called `exe` where the kernel names the writer.
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
    /// Answers questions until there are none any more, and puts the type back.
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
            // One that is suspended still has its copy, and others may have waited long enough. When it goes on, it finds us gone,
            // and takes its turn anew before it does anything. That this fails is no worse than not to try.
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

    /// Makes the group `wanted`. That it will not be as it was is written down first, and taken back only when it is again.
    fn make(&mut self, wanted: Mode) -> GuardReply {
        let id = self.journal.group();
        let found = self.context.sysfs.domain_type(id).ok().flatten();
        if found != Some(self.now.domain_type()) {
            // Whatever was ours is not any more.
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
        // What the kernel has begun and not ended is known only when it has.
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

/// The next question; `None` if there will be none: nobody is there, or nothing came, or nothing that makes sense.
fn ask(questions: &mut impl BufRead, run: &PrivateDir) -> Option<GuardRequest> {
    let begin = Instant::now();
    let mut line = Vec::new();
    loop {
        match questions.read_until(b'\n', &mut line) {
            Ok(_) if line.ends_with(b"\n") => return serde_json::from_slice(&line).ok(),
            Ok(_) => return None,
            // The raw errno: nothing came in time. What has come of a line is kept.
            Err(error) if error.raw_os_error() == Some(Errno::EAGAIN as i32) => {
                // Who cannot be asked does not wait.
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

/// That nobody listens is found out by the next question that does not come.
fn say(mut socket: &UnixStream, answer: &GuardReply) {
    if let Ok(mut line) = serde_json::to_vec(answer) {
        line.push(b'\n');
        let _ = socket.write_all(&line);
    }
}

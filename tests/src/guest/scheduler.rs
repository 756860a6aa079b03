// SPDX-License-Identifier: GPL-2.0-only
//! Who gets processor time, and where.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Duration;

use anyhow::{bail, Context as _, Result};
use nix::errno::Errno;
use nix::libc;
use nix::sched::{sched_setaffinity, CpuSet};
use nix::sys::prctl::set_timerslack;
use nix::unistd::Pid;

/// The processor for those who are not to be starved.
pub const FIRST: usize = 0;
/// The processor on which tasks are starved.
pub const SECOND: usize = 1;

/// How a task is scheduled.
#[derive(Clone, Copy, Debug)]
pub enum Policy {
    /// Gets its share.
    Common,
    /// Gets what nobody else wants.
    Idle,
    /// Before every common task, and takes turns with others of its priority.
    RoundRobin(i32),
    /// Before every common task, for as long as it likes.
    Fifo(i32),
}

/// Gives the task `pid`, which may be one of the kernel's, a policy; 0 is the calling thread, and those it starts.
///
/// # Errors
/// When there is no such task.
pub fn set_policy(pid: u32, policy: Policy) -> Result<()> {
    let (number, priority) = match policy {
        Policy::Common => (libc::SCHED_OTHER, 0),
        Policy::Idle => (libc::SCHED_IDLE, 0),
        Policy::RoundRobin(priority) => (libc::SCHED_RR, priority),
        Policy::Fifo(priority) => (libc::SCHED_FIFO, priority),
    };
    let pid: libc::pid_t = pid.try_into()?;
    let parameters: *const libc::c_int = &priority;
    #[expect(
        unsafe_code,
        reason = "nix has no name for it, and musl's own function does nothing"
    )]
    // SAFETY: The kernel reads the parameters, a `struct sched_param` of one number, which outlives the call.
    let answer = unsafe { libc::syscall(libc::SYS_sched_setscheduler, pid, number, parameters) };
    Errno::result(answer)
        .map(|_| ())
        .with_context(|| format!("cannot give {policy:?} to task {pid}"))
}

/// Keeps the task `pid` on one processor; 0 is the calling thread, and those it starts.
///
/// # Errors
/// When there is no such task, or it must not be moved.
pub fn pin(pid: u32, processor: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(processor)?;
    sched_setaffinity(Pid::from_raw(pid.try_into()?), &set)
        .with_context(|| format!("cannot keep task {pid} on processor {processor}"))
}

/// The number of the task whose name begins with `name`.
///
/// # Errors
/// When there is none.
pub fn find(name: &str) -> Result<u32> {
    let entries = std::fs::read_dir("/proc").context("cannot read /proc")?;
    let is_it = |pid: &u32| {
        std::fs::read_to_string(format!("/proc/{pid}/comm"))
            .is_ok_and(|comm| comm.starts_with(name))
    };
    let pids = entries
        .flatten()
        .filter_map(|entry| entry.file_name().to_string_lossy().parse().ok());
    let found = pids.into_iter().find(is_it);
    found.with_context(|| format!("no task is called {name}"))
}

/// Whether the kernel keeps a twentieth of the processor [`SECOND`] for common tasks when real-time tasks want all of it,
/// as it does by itself.
///
/// # Errors
/// When the kernel does not let it be changed.
pub fn mercy(on: bool) -> Result<()> {
    let path = format!("/sys/kernel/debug/sched/fair_server/cpu{SECOND}/runtime");
    // Nanoseconds of each second.
    let runtime = if on { "50000000" } else { "0" };
    std::fs::write(&path, runtime).with_context(|| format!("cannot write {runtime} to {path}"))
}

/// Has something to do every now and then. A machine that counts instructions for a clock goes straight on to its next timer when
/// it has nothing to do, even while a disk is about to answer: this is how long that can take.
#[derive(Debug)]
pub struct Metronome {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<Result<()>>,
}

impl Metronome {
    /// Begins.
    pub fn start(period: Duration) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let thread = std::thread::spawn(move || {
            // Of this thread. Sleeps are lengthened by 50 µs else, so that several end together.
            set_timerslack(1).context("cannot have sleeps end in time")?;
            while !stopped.load(Ordering::Relaxed) {
                std::thread::sleep(period);
            }
            Ok(())
        });
        Self { stop, thread }
    }

    /// Ends.
    ///
    /// # Errors
    /// When it did not keep time.
    pub fn end(self) -> Result<()> {
        self.stop.store(true, Ordering::Relaxed);
        match self.thread.join() {
            Ok(result) => result,
            Err(_) => bail!("the metronome panicked"),
        }
    }
}

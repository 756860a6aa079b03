// SPDX-License-Identifier: GPL-2.0-only
//! The main loop of the recorder: receives events, and compares every group from time to time.

use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{poll, PollFd, PollFlags, PollTimeout};

use super::socket::{Received, Socket};
use super::uevent::{self, Message};
use super::{Recorder, BATCH};
use crate::audit::event::Event;
use crate::audit::log::chain::Note;
use crate::sys::signals::Signals;

/// How often every group is compared if the kernel reports each write: only to find what went wrong.
const RESCAN_INTERVAL: Duration = Duration::from_secs(60);
/// How often every group is compared without the module, when there are no reports.
const POLL_INTERVAL: Duration = Duration::from_secs(10);
/// How long to wait after a device was added or removed: its group does not change in the same moment.
const SETTLE_DELAY: Duration = Duration::from_millis(500);
/// How long after a write the kernel's event may arrive.
const EVENT_DELAY: Duration = Duration::from_millis(100);
/// How often signals are polled.
const SIGNAL_POLL_INTERVAL: Duration = Duration::from_millis(500);

/// The destination of events, and the source of those that others have recorded.
pub trait Sink {
    /// Records events, in order.
    fn record(&mut self, events: Vec<Event>, notes: Vec<Note>);

    /// Calls `each` for every event that anybody has recorded since the last call.
    fn news(&mut self, each: &mut dyn FnMut(&Event));

    /// How often every group is compared without the module, when the kernel reports no writes.
    fn gently(&self) -> Duration {
        POLL_INTERVAL
    }

    /// Whether the destination is closed.
    fn is_done(&self) -> bool {
        false
    }
}

/// Runs until a termination signal arrives, or the sink is done.
pub fn run(
    recorder: &mut Recorder<'_>,
    socket: &mut Socket,
    sink: &mut dyn Sink,
    signals: &mut Signals,
) -> nix::Result<()> {
    let mut look = Instant::now();
    while signals.seen().is_none() && !sink.is_done() {
        let taken = take(recorder, socket)?;
        let full = taken.events.len() >= BATCH;
        if let Some(after) = taken.look {
            look = look.min(Instant::now() + after);
        }
        taken.hand_on(sink);
        if full {
            continue;
        }
        if Instant::now() >= look {
            compare(recorder, socket, sink)?;
            let often = match recorder.has_module() {
                true => RESCAN_INTERVAL,
                false => sink.gently(),
            };
            look = Instant::now() + often;
        }
        wait(
            socket,
            look.saturating_duration_since(Instant::now())
                .min(SIGNAL_POLL_INTERVAL),
        )?;
    }
    take(recorder, socket)?.hand_on(sink);
    Ok(())
}

/// The messages that were received.
#[derive(Default)]
struct Taken {
    events: Vec<Event>,
    notes: Vec<Note>,
    /// When to compare every group, if there is a reason to.
    look: Option<Duration>,
}

impl Taken {
    fn hand_on(self, sink: &mut dyn Sink) {
        if !self.events.is_empty() || !self.notes.is_empty() {
            sink.record(self.events, self.notes);
        }
    }

    fn look(&mut self, after: Duration) {
        self.look = Some(self.look.map_or(after, |before| before.min(after)));
    }
}

fn take(recorder: &mut Recorder<'_>, socket: &mut Socket) -> nix::Result<Taken> {
    let mut taken = Taken::default();
    while taken.events.len() < BATCH {
        match socket.receive()? {
            Received::Event(bytes) => match uevent::parse(bytes) {
                Some(Message::Write(report)) => {
                    let (event, missed) = recorder.report(*report);
                    if missed {
                        taken.look(Duration::ZERO);
                    }
                    taken.events.push(event);
                }
                Some(Message::Devices) => {
                    recorder.forget_devices();
                    taken.look(SETTLE_DELAY);
                }
                Some(Message::Module) => {
                    recorder.forget_sequence();
                    taken.look(SETTLE_DELAY);
                }
                None => {}
            },
            Received::Stranger => {}
            Received::Nothing => break,
            Received::Overrun => {
                taken.notes.push(Note::Overrun);
                taken.look(Duration::ZERO);
            }
        }
    }
    Ok(taken)
}

/// Compares every group with its known state, and records the differences.
fn compare(
    recorder: &mut Recorder<'_>,
    socket: &mut Socket,
    sink: &mut dyn Sink,
) -> nix::Result<()> {
    sink.news(&mut |event| recorder.learn(event));
    let mut differing = recorder.differing();
    if differing.is_empty() {
        return Ok(());
    }
    // Wait for the report and the record of a write that is already visible in sysfs.
    if recorder.has_module() {
        std::thread::sleep(EVENT_DELAY);
        take(recorder, socket)?.hand_on(sink);
    }
    sink.news(&mut |event| recorder.learn(event));
    let again = recorder.differing();
    differing.retain(|id| again.contains(id));
    let found: Vec<Event> = differing
        .into_iter()
        .filter_map(|id| recorder.found(id))
        .collect();
    if !found.is_empty() {
        sink.record(found, Vec::new());
    }
    Ok(())
}

fn wait(socket: &Socket, time: Duration) -> nix::Result<()> {
    let milliseconds = u16::try_from(time.as_millis()).unwrap_or(u16::MAX);
    let mut fds = [PollFd::new(socket.as_fd(), PollFlags::POLLIN)];
    match poll(&mut fds, PollTimeout::from(milliseconds)) {
        Ok(_) | Err(Errno::EINTR) => Ok(()),
        Err(errno) => Err(errno),
    }
}

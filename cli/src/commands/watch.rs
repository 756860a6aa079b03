// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl watch`: what happens to the types of groups, as it happens. What it sees is for everybody to see, so it needs no
//! root; and it records nothing.

use std::time::Duration;

use anyhow::Context as _;

use super::audit::entry_lines::Shown;
use crate::audit::event::{Event, Learned};
use crate::audit::history::changes::Entry;
use crate::audit::log::chain::Note;
use crate::audit::recorder::run::{run as work, Sink};
use crate::audit::recorder::socket::Socket;
use crate::audit::recorder::Recorder;
use crate::commands::common::args::Global;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::kernel::sysfs::Problems;
use crate::sys::signals::Signals;
use crate::terminal::output::Output;

/// The text below the help of `watch`.
pub const WATCH_HELP: &str = "\
First every group as it is now, then a line for each change, refusal and failure, until Ctrl-C.
With iommu_live loaded the kernel tells at once, and of whoever wrote. Without it, every group
is looked at every two seconds, and nothing says who it was. With --json, one object a line.";

/// How often every group is looked at without the module: somebody is waiting in front of it.
const POLL_INTERVAL: Duration = Duration::from_secs(2);
/// What the kernel is to keep for us while a slow terminal holds us up.
const SOCKET_BUFFER_SIZE: usize = 8 * 1024 * 1024;

/// Runs the command.
pub fn run(global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    let mut socket =
        Socket::open(SOCKET_BUFFER_SIZE).context("Failed to listen to the kernel's events")?;
    let context = Context::open(&global.roots)?;
    // Without an IOMMU nothing will ever happen: that is better said than waited for.
    let mut problems = Problems::default();
    context.inventory(&mut problems)?;
    output.warn_all(problems.iter());
    let mut signals = Signals::watch().context("Failed to hold back signals")?;
    let mut sink = Screen {
        shown: Shown::begin(output, true)?,
        output,
        failed: None,
    };
    let mut recorder = Recorder::new(&context.sysfs, &context.proc);
    let ended = work(&mut recorder, &mut socket, &mut sink, &mut signals);
    ended.context("Failed to receive the kernel's events")?;
    sink.failed.map_or(Ok(Exit::Done), Err)
}

/// Shows what comes.
struct Screen<'a> {
    shown: Shown,
    output: &'a mut Output,
    failed: Option<anyhow::Error>,
}

impl Sink for Screen<'_> {
    fn record(&mut self, events: Vec<Event>, notes: Vec<Note>) {
        if notes.contains(&Note::Overrun) {
            self.output
                .warn("more happened at once than the kernel could keep for us");
        }
        for event in events {
            if self.is_done() {
                return;
            }
            let confirmed = event.learned == Learned::Kernel;
            let entry = Entry { event, confirmed };
            if let Err(error) = self.shown.explained(&entry, self.output) {
                self.failed = Some(error);
            }
        }
    }

    fn news(&mut self, _each: &mut dyn FnMut(&Event)) {
        // What others have recorded is for root to read, and it happened to what is seen here as well.
    }

    fn gently(&self) -> Duration {
        POLL_INTERVAL
    }

    fn is_done(&self) -> bool {
        self.failed.is_some() || self.output.is_closed()
    }
}

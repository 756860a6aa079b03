// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit record`: the recorder.

use std::collections::BTreeSet;
use std::path::PathBuf;

use anyhow::Context as _;
use iommuctl_policy::AuditSettings;

use super::places;
use crate::audit::event::Event;
use crate::audit::log::chain::{Body, Note};
use crate::audit::log::file::{Log, Places};
use crate::audit::log::read::{self, Position};
use crate::audit::recorder::run::{run as work, Sink};
use crate::audit::recorder::socket::Socket;
use crate::audit::recorder::{Recorder, BATCH};
use crate::audit::settings;
use crate::audit::sinks::{journald, linux_audit};
use crate::commands::common::args::Global;
use crate::exit::Exit;
use crate::kernel::machine::Context;
use crate::sys::signals::Signals;
use crate::terminal::output::Output;

/// Arguments of `audit record`.
#[derive(Debug, clap::Args)]
pub struct RecordArgs {
    /// How many bytes of events the kernel keeps for us while we are busy; a service gets that from its socket unit
    #[arg(long, value_name = "BYTES", default_value = "67108864")]
    pub buffer: usize,
}

/// The most events at once that the journal and the audit system are told of one by one. They are slower than the log, and
/// journald drops what comes too fast.
const MAX_FORWARDED: usize = 64;

/// Runs the command.
pub fn run(args: &RecordArgs, global: &Global, output: &mut Output) -> anyhow::Result<Exit> {
    // Before anything is looked at: what happens from here on waits in the socket.
    let mut socket =
        Socket::open(args.buffer).context("Failed to listen to the kernel's events")?;
    let mut signals = Signals::watch().context("Failed to hold back signals")?;
    let context = Context::open(&global.roots)?;
    let (settings, log) = settings::log(global.roots.root.as_deref())?;
    let me = context.proc.executable(std::process::id());
    let mut sink = GuardClient {
        root: global
            .roots
            .root
            .clone()
            .unwrap_or_else(|| PathBuf::from("/")),
        log,
        settings,
        places: places(global),
        position: Position::default(),
        unsaved: Vec::new(),
        told: BTreeSet::new(),
        me,
        output,
    };
    let mut recorder = Recorder::new(&context.sysfs, &context.proc);
    let module = recorder.has_module();
    sink.record(Vec::new(), vec![Note::Started { module }]);
    let ended = work(&mut recorder, &mut socket, &mut sink, &mut signals);
    sink.record(Vec::new(), vec![Note::Stopped]);
    ended.context("Failed to receive the kernel's events")?;
    Ok(Exit::Done)
}

/// Keeps what happens: in the log, and elsewhere.
struct GuardClient<'a> {
    root: PathBuf,
    log: Log,
    settings: AuditSettings,
    places: Places,
    position: Position,
    /// What the log did not take, for another try.
    unsaved: Vec<Body>,
    /// What was complained of, each thing once until it works again.
    told: BTreeSet<String>,
    /// Our program: what it does it records by itself.
    me: Option<String>,
    output: &'a mut Output,
}

impl GuardClient<'_> {
    fn complain(&mut self, what: String) {
        if self.told.insert(what.clone()) {
            self.output.complain(&what);
        }
    }

    /// The journal and the audit system.
    fn tell(&mut self, events: &[Event]) {
        let others = |event: &&Event| self.me.is_none() || event.who.executable != self.me;
        let events: Vec<&Event> = events.iter().filter(others).collect();
        if events.len() > MAX_FORWARDED {
            let count = events.len();
            self.output.complain(&format!(
                "{count} changes at once; `iommuctl audit log` shows each"
            ));
            return;
        }
        for event in events {
            if self.settings.journal {
                if let Err(error) = journald::send(&self.root, event) {
                    self.complain(format!("the journal was not told: {error}"));
                }
            }
            if self.settings.linux_audit {
                if let Err(why) = linux_audit::send(event) {
                    self.complain(format!("the Linux audit system was not told: {why}"));
                }
            }
        }
    }
}

impl Sink for GuardClient<'_> {
    fn record(&mut self, events: Vec<Event>, notes: Vec<Note>) {
        self.tell(&events);
        let mut bodies = std::mem::take(&mut self.unsaved);
        bodies.extend(notes.into_iter().map(Body::Note));
        bodies.extend(events.into_iter().map(|event| Body::Event(Box::new(event))));
        if bodies.is_empty() {
            return;
        }
        match self.log.append(&bodies) {
            Ok(()) => self.told.clear(),
            Err(error) => {
                self.complain(format!(
                    "the audit log was not written, and is tried again: {error}"
                ));
                // What is too much is still in the journal, and what came of it will be found by comparison.
                let too_many = bodies.len().saturating_sub(BATCH);
                bodies.drain(..too_many);
                self.unsaved = bodies;
            }
        }
    }

    fn news(&mut self, each: &mut dyn FnMut(&Event)) {
        let read = read::events(&self.places, &mut self.position, |event| each(&event));
        if let Err(error) = read {
            self.complain(format!("the audit log was not read: {error}"));
        }
    }
}

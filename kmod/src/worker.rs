// SPDX-License-Identifier: GPL-2.0-only

//! Who makes a tighten: a worker. The writer waits for it until the domain is strict, which is the
//! first of three grace periods; the others the worker does behind the writer's back.
//!
//! A writer could not leave the rest of its switch to another: the group's mutex belongs to the
//! thread that has locked it. So that thread is the worker from the beginning.

use crate::{
    protocol::{self, Service},
    tighten::{self, Done, Leftover, Spare},
    writer_lock::Turn,
    private_structs::{Group, KeptGroup},
};
use core::{
    ffi::c_void,
    ptr::{null_mut, NonNull},
};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::sync::{Arc, Completion};
use kernel::workqueue::Queue;

extern "C" {
    fn iommu_live_queue() -> *mut bindings::workqueue_struct;
}

/// Where workers are found. Set before the first is sent, and for as long as one can be.
static QUEUE: Atomic<*mut c_void> = Atomic::new(null_mut());

/// The workers of this module.
///
/// # Invariants
///
/// A workqueue of this module's own, which [`QUEUE`] has, or NULL after it was destroyed.
pub(crate) struct Workers(*mut bindings::workqueue_struct);

// SAFETY: A workqueue may be destroyed by any thread that may sleep.
unsafe impl Send for Workers {}
// SAFETY: Nothing is done through a shared reference.
unsafe impl Sync for Workers {}

impl Workers {
    /// Makes the queue. Called once, when the module is loaded.
    ///
    /// # Errors
    ///
    /// `ENOMEM`.
    pub(crate) fn hire() -> Result<Self> {
        // SAFETY: A module's init may sleep and allocate.
        let queue = NonNull::new(unsafe { iommu_live_queue() }).ok_or(ENOMEM)?;
        QUEUE.store(queue.as_ptr().cast(), Relaxed);
        // INVARIANT: Just made.
        Ok(Self(queue.as_ptr()))
    }

    /// Waits until every worker has left the module. Nobody may send one any more.
    pub(crate) fn dismiss(&mut self) {
        let queue = core::mem::replace(&mut self.0, null_mut());
        QUEUE.store(null_mut(), Relaxed);
        if !queue.is_null() {
            // SAFETY: Ours, by the type invariant, and nobody sends work there any more. This
            // waits for what was sent, to its return.
            unsafe { bindings::destroy_workqueue(queue) };
        }
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        self.dismiss();
    }
}

/// What a worker tells the writer who waits for it.
///
/// # Invariants
///
/// `strict_ns` and `drained` are written before the completion alone; `strict_ns` stays negative
/// if the switch was not ours to make.
#[pin_data]
struct Answer {
    #[pin]
    given: Completion,
    strict_ns: Atomic<i64>,
    drained: Atomic<u64>,
}

impl Answer {
    fn new() -> impl PinInit<Self> {
        pin_init!(Self {
            given <- Completion::new(),
            strict_ns: Atomic::new(-1),
            drained: Atomic::new(0),
        })
    }

    fn give(&self, done: Option<Done>) {
        if let Some(done) = done {
            self.strict_ns.store(done.strict_ns.max(0), Relaxed);
            self.drained.store(done.drained, Relaxed);
        }
        self.given.complete_all();
    }

    /// Sleeps until there is one.
    fn wait(&self) -> Option<Done> {
        self.given.wait_for_completion();
        let strict_ns = self.strict_ns.load(Relaxed);
        (strict_ns >= 0).then(|| Done {
            strict_ns,
            drained: self.drained.load(Relaxed),
        })
    }
}

/// What a worker is sent for.
///
/// # Invariants
///
/// `group` is a `struct iommu_group` that a writer keeps until the answer is given.
struct Errand {
    group: NonNull<c_void>,
    turn: Turn,
    spare: Spare,
    started: i64,
    answer: Arc<Answer>,
}

// SAFETY: All but the group may be sent anyway, and that is a structure of the kernel's, which
// belongs to no thread.
unsafe impl Send for Errand {}

/// A worker on its errand. What it is done with is `None`.
struct Worker {
    errand: Option<Errand>,
    answer: Option<Arc<Answer>>,
    turn: Option<Turn>,
    kept: Option<KeptGroup>,
    leftover: Option<Leftover>,
}

impl Worker {
    fn on(errand: Errand) -> Self {
        Self {
            errand: Some(errand),
            answer: None,
            turn: None,
            kept: None,
            leftover: None,
        }
    }
}

impl Service for Worker {
    fn switch(&mut self) {
        let Some(errand) = self.errand.take() else {
            return;
        };
        let Errand {
            group,
            turn,
            spare,
            started,
            answer,
        } = errand;
        // SAFETY: The writer keeps the group until the answer, by the type invariant of `Errand`,
        // and from then on the reference below does.
        let locked = unsafe { Group::from_raw(group) }.lock();
        self.kept = locked.keep();
        let strict = |done| answer.give(Some(done));
        self.leftover = self
            .kept
            .as_ref()
            .and_then(|_| tighten::attempt(&locked, spare, started, strict));
        self.turn = Some(turn);
        self.answer = self.leftover.is_none().then_some(answer);
    }

    fn answer(&mut self) {
        if let Some(answer) = self.answer.take() {
            answer.give(None);
        }
    }

    fn end_turn(&mut self) {
        self.turn = None;
    }

    fn put_group(&mut self) {
        self.kept = None;
    }

    fn finish(&mut self) {
        self.leftover = None;
    }
}

/// Has a worker tighten the group's default domain, and waits until it is strict. `None` if it is
/// no domain that this module may switch.
///
/// # Errors
///
/// `ENOMEM`; nothing was done then.
pub(crate) fn tighten(
    group: Group<'_>,
    turn: &Turn,
    spare: Spare,
    started: i64,
) -> Result<Option<Done>> {
    let queue = NonNull::new(QUEUE.load(Relaxed)).ok_or(ENODEV)?;
    let answer = Arc::pin_init(Answer::new(), GFP_KERNEL)?;
    // INVARIANT: The group stays for the writer, who waits for the answer below.
    let errand = Errand {
        group: NonNull::new(group.as_ptr()).ok_or(EINVAL)?,
        turn: turn.share(),
        spare,
        started,
        answer: answer.clone(),
    };
    // SAFETY: A workqueue, which is destroyed only after the last turn has ended, and the writer
    // has one.
    let queue = unsafe { Queue::from_raw(queue.as_ptr().cast()) };
    queue.try_spawn(GFP_KERNEL, move || protocol::serve(&mut Worker::on(errand)))?;
    Ok(answer.wait())
}

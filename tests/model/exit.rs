// SPDX-License-Identifier: GPL-2.0-only
//! The module's way out, as in `kmod/src/interpose.rs`: the `store` of the attribute, its writers, and [`Exit`].

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::ghost::Ghost;
use crate::grace::{wait_for, Reader};
use crate::protocol::Exit;

/// A number that can be waited for.
struct Count(Mutex<usize>, Condvar);

impl Count {
    fn new() -> Self {
        Self(Mutex::new(0), Condvar::new())
    }

    fn raise(&self) {
        *self.0.lock().unwrap() += 1;
    }

    fn lower(&self) {
        *self.0.lock().unwrap() -= 1;
        self.1.notify_all();
    }

    /// Waits until it is 0, and makes it `new` at once.
    fn replace_zero(&self, new: usize) {
        let mut count = self.0.lock().unwrap();
        while *count != 0 {
            count = self.1.wait(count).unwrap();
        }
        *count = new;
    }
}

/// The attribute and the module.
pub struct Module {
    /// Whether the attribute's `store` is the module's.
    ours: AtomicBool,
    in_flight: AtomicUsize,
    leaving: AtomicBool,
    /// How many have a share in the turn at the group.
    turn: Count,
    /// Those who were sent and have not returned.
    workers: Count,
    sent: std::sync::Mutex<Vec<JoinHandle<()>>>,
    /// Stands in for polling `in_flight`, which a model checker would do for ever.
    went: (Mutex<()>, Condvar),
    /// One for each writer.
    pub readers: Vec<Reader>,
    pub ghost: Ghost,
}

impl Module {
    pub fn loaded(writers: usize) -> Self {
        Self {
            ours: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            turn: Count::new(),
            workers: Count::new(),
            sent: std::sync::Mutex::new(Vec::new()),
            went: (Mutex::new(()), Condvar::new()),
            readers: (0..writers).map(|_| Reader::new()).collect(),
            ghost: Ghost::lazy(),
        }
    }

    /// A write of `type`. It sleeps in the middle (it takes mutexes), and a sleeping task is no reader to tasks-RCU.
    pub fn write(module: &Arc<Self>, task: usize) {
        let entered = module.readers[task].read(|| {
            if !module.ours.load(Ordering::Relaxed) {
                module.ghost.bypass();
                return false;
            }
            module.ghost.use_text();
            module.in_flight.fetch_add(1, Ordering::Acquire);
            module.ghost.use_text();
            true
        });
        if !entered {
            return;
        }
        module.turn.replace_zero(1);
        module.ghost.use_text();
        if !module.leaving.load(Ordering::Relaxed) {
            module.ghost.begin_switch();
            module.turn.raise();
            module.workers.raise();
            let sent = Arc::clone(module);
            let worker = thread::spawn(move || sent.work());
            module.sent.lock().unwrap().push(worker);
            // The answer can come at once, so nothing is waited for.
        }
        module.turn.lower();
        module.readers[task].read(|| {
            module.ghost.use_text();
            module.in_flight.fetch_sub(1, Ordering::Release);
            {
                let _guard = module.went.0.lock().unwrap();
                module.went.1.notify_all();
            }
            // The return from the store.
            module.ghost.use_text();
        });
    }

    /// What a worker does after its answer.
    fn work(&self) {
        self.ghost.use_text();
        self.ghost.end_switch();
        self.turn.lower();
        self.ghost.use_text();
        // It has returned.
        self.workers.lower();
    }

    /// The model is over.
    pub fn join_workers(&self) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        for worker in sent {
            worker.join().unwrap();
        }
    }
}

impl Exit for &Module {
    fn stop_switching(&mut self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn wait_for_switches(&mut self) {
        self.turn.replace_zero(0);
    }

    fn wait_for_workers(&mut self) {
        self.workers.replace_zero(0);
    }

    fn restore_store(&mut self) {
        self.ours.store(false, Ordering::SeqCst);
    }

    fn wait_for_readers(&mut self) {
        wait_for(&self.readers);
    }

    fn wait_for_writers(&mut self) {
        let mut guard = self.went.0.lock().unwrap();
        while self.in_flight.load(Ordering::Acquire) != 0 {
            guard = self.went.1.wait(guard).unwrap();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The module's way out, as in `kmod/src/interpose.rs`: the `store` of the attribute, its writers, and [`Exit`].

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Condvar, Mutex};
use loom::thread;

use crate::ghost::Ghost;
use crate::grace::{wait_for, Reader};
use crate::protocol::Exit;

/// The attribute and the module.
pub struct Module {
    /// Whether the attribute's `store` is the module's.
    ours: AtomicBool,
    in_flight: AtomicUsize,
    leaving: AtomicBool,
    /// Writers of a group take turns.
    turn: Mutex<()>,
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
            turn: Mutex::new(()),
            went: (Mutex::new(()), Condvar::new()),
            readers: (0..writers).map(|_| Reader::new()).collect(),
            ghost: Ghost::lazy(),
        }
    }

    /// A write of `type`. It sleeps in the middle (it takes mutexes), and a sleeping task is no reader to tasks-RCU.
    pub fn write(&self, task: usize) {
        let entered = self.readers[task].read(|| {
            if !self.ours.load(Ordering::Relaxed) {
                self.ghost.bypass();
                return false;
            }
            self.ghost.use_text();
            self.in_flight.fetch_add(1, Ordering::Acquire);
            self.ghost.use_text();
            true
        });
        if !entered {
            return;
        }
        {
            let _turn = self.turn.lock().unwrap();
            self.ghost.use_text();
            if !self.leaving.load(Ordering::Relaxed) {
                self.ghost.begin_switch();
                // It takes its time.
                thread::yield_now();
                self.ghost.end_switch();
            }
        }
        self.readers[task].read(|| {
            self.ghost.use_text();
            self.in_flight.fetch_sub(1, Ordering::Release);
            {
                let _guard = self.went.0.lock().unwrap();
                self.went.1.notify_all();
            }
            // The return from the store.
            self.ghost.use_text();
        });
    }
}

impl Exit for &Module {
    fn stop_switching(&mut self) {
        self.leaving.store(true, Ordering::Relaxed);
    }

    fn wait_for_switches(&mut self) {
        drop(self.turn.lock().unwrap());
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

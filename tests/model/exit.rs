// SPDX-License-Identifier: GPL-2.0-only
//! Those who write, those who switch for them, and the module's way out, as in `kmod/src/interpose.rs`, `type_store.rs` and
//! `worker.rs`: the `store` of the attribute, the group behind it, [`Service`] and [`Exit`].
//!
//! The device of the group leaves behind the first switch, so that the worker has the group's last reference.

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::ghost::Ghost;
use crate::grace::{wait_for, Reader};
use crate::mutation::{Mutated, Mutation};
use crate::protocol::{serve, Exit, Service};

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

/// The file `type`, to kernfs.
struct File {
    there: bool,
    /// Those who write it.
    active: usize,
}

struct Group {
    device: bool,
    references: usize,
}

/// The attribute and the module.
pub struct Module {
    /// Whether the attribute's `store` is the module's.
    ours: AtomicBool,
    in_flight: AtomicUsize,
    leaving: AtomicBool,
    file: (Mutex<File>, Condvar),
    /// The group's mutex.
    group: Mutex<Group>,
    /// How many have a share in the turn at the group.
    turn: Count,
    /// Those who were sent and have not returned.
    workers: Count,
    sent: std::sync::Mutex<Vec<JoinHandle<()>>>,
    /// What is wrong with the workers.
    mutation: Mutation,
    /// Stands in for polling `in_flight`, which a model checker would do for ever.
    went: (Mutex<()>, Condvar),
    /// One for each writer.
    pub readers: Vec<Reader>,
    pub ghost: Ghost,
}

impl Module {
    pub fn loaded(writers: usize, mutation: Mutation) -> Self {
        let file = File {
            there: true,
            active: 0,
        };
        Self {
            ours: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            leaving: AtomicBool::new(false),
            file: (Mutex::new(file), Condvar::new()),
            group: Mutex::new(Group {
                device: true,
                references: 1,
            }),
            turn: Count::new(),
            workers: Count::new(),
            sent: std::sync::Mutex::new(Vec::new()),
            mutation,
            went: (Mutex::new(()), Condvar::new()),
            readers: (0..writers).map(|_| Reader::new()).collect(),
            ghost: Ghost::lazy(),
        }
    }

    /// A write of `type`, if the file is still there.
    pub fn write(module: &Arc<Self>, task: usize) {
        {
            let mut file = module.file.0.lock().unwrap();
            if !file.there {
                return;
            }
            file.active += 1;
        }
        Self::store(module, task);
        module.file.0.lock().unwrap().active -= 1;
        module.file.1.notify_all();
    }

    /// It sleeps in the middle (it takes mutexes), and a sleeping task is no reader to tasks-RCU.
    fn store(module: &Arc<Self>, task: usize) {
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
            let answer = Arc::new(Answer::none());
            let mut worker = Mutated::new(Worker::sent(module, &answer), module.mutation);
            let sent = thread::spawn(move || {
                serve(&mut worker);
                worker.into_machine().return_();
            });
            module.sent.lock().unwrap().push(sent);
            if !answer.wait() {
                // The kernel's own store answers.
                module.ghost.bypass();
            }
            module.ghost.use_text();
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

    /// The model is over, and nobody has left: whoever came first has switched, and nothing is left of it.
    pub fn served(&self) {
        self.join_workers();
        self.ghost.all_served();
    }

    pub fn join_workers(&self) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        for worker in sent {
            worker.join().unwrap();
        }
    }
}

/// What a writer waits for: whether its group was switched.
struct Answer(Mutex<Option<bool>>, Condvar);

impl Answer {
    fn none() -> Self {
        Self(Mutex::new(None), Condvar::new())
    }

    fn give(&self, done: bool) {
        let mut given = self.0.lock().unwrap();
        if given.is_none() {
            *given = Some(done);
            self.1.notify_all();
        }
    }

    fn wait(&self) -> bool {
        let mut given = self.0.lock().unwrap();
        loop {
            match *given {
                Some(done) => return done,
                None => given = self.1.wait(given).unwrap(),
            }
        }
    }
}

/// Who switches for a writer.
struct Worker {
    module: Arc<Module>,
    answer: Arc<Answer>,
    kept: bool,
    leftover: bool,
}

impl Worker {
    fn sent(module: &Arc<Module>, answer: &Arc<Answer>) -> Self {
        module.turn.raise();
        module.workers.raise();
        Self {
            module: Arc::clone(module),
            answer: Arc::clone(answer),
            kept: false,
            leftover: false,
        }
    }

    fn return_(&self) {
        self.module.ghost.use_text();
        self.module.workers.lower();
    }
}

impl Service for Worker {
    fn switch(&mut self) {
        let ghost = &self.module.ghost;
        ghost.use_text();
        let mut group = self.module.group.lock().unwrap();
        if group.device {
            group.references += 1;
            self.kept = true;
            self.leftover = true;
            ghost.begin_switch();
            self.answer.give(true);
            // It takes its time.
            thread::yield_now();
            ghost.end_switch();
        }
    }

    fn answer(&mut self) {
        self.answer.give(false);
    }

    fn end_turn(&mut self) {
        self.module.turn.lower();
    }

    fn put_group(&mut self) {
        if !std::mem::take(&mut self.kept) {
            return;
        }
        {
            let mut group = self.module.group.lock().unwrap();
            group.references -= 1;
            if std::mem::take(&mut group.device) {
                group.references -= 1;
            }
            if group.references > 0 {
                return;
            }
        }
        // kernfs_drain()
        let (file, left) = &self.module.file;
        let mut file = file.lock().unwrap();
        file.there = false;
        while file.active != 0 {
            file = left.wait(file).unwrap();
        }
        drop(file);
        self.module.ghost.put_group();
    }

    fn finish(&mut self) {
        self.module.ghost.use_text();
        if std::mem::take(&mut self.leftover) {
            self.module.ghost.finish_switch();
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

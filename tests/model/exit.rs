// SPDX-License-Identifier: GPL-2.0-only
//! Those who write, the cleaner, and the module's way out: the `store` of the attribute, the module's references, and [`Exit`].

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use loom::sync::{Arc, Condvar, Mutex};
use loom::thread::{self, JoinHandle};

use crate::ghost::{check, property};
use crate::grace::{GracePeriod, Reader};
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

    fn wait_for_zero(&self) {
        let mut count = self.0.lock().unwrap();
        while *count != 0 {
            count = self.1.wait(count).unwrap();
        }
    }
}

/// The module to the loader.
#[derive(Default)]
struct References {
    count: usize,
    going: bool,
}

/// What the group's mutex guards, as far as it matters here.
#[derive(Default)]
struct Group {
    strict: bool,
    in_clean_up: bool,
}

/// The attribute and the module.
pub struct Module {
    /// Whether the attribute's `store` is the module's.
    ours: AtomicBool,
    in_flight: AtomicUsize,
    references: (Mutex<References>, Condvar),
    group: Mutex<Group>,
    /// Those who clean up and have not returned.
    cleaners: Count,
    sent: std::sync::Mutex<Vec<JoinHandle<()>>>,
    /// Stands in for polling `in_flight`, which a model checker would do for ever.
    went: (Mutex<()>, Condvar),
    text: AtomicBool,
    /// One for each writer.
    pub readers: Vec<Reader>,
}

impl Module {
    pub fn loaded(writers: usize) -> Self {
        Self {
            ours: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            references: (Mutex::new(References::default()), Condvar::new()),
            group: Mutex::new(Group::default()),
            cleaners: Count::new(),
            sent: std::sync::Mutex::new(Vec::new()),
            went: (Mutex::new(()), Condvar::new()),
            text: AtomicBool::new(true),
            readers: (0..writers).map(|_| Reader::new()).collect(),
        }
    }

    fn use_text(&self) {
        check(self.text.load(Ordering::SeqCst), property::TEXT);
    }

    pub fn free_text(&self) {
        self.text.store(false, Ordering::SeqCst);
    }

    /// `try_module_get()`.
    fn get(&self) -> bool {
        let mut references = self.references.0.lock().unwrap();
        references.count += usize::from(!references.going);
        !references.going
    }

    /// `module_put()`.
    fn put(&self) {
        self.references.0.lock().unwrap().count -= 1;
        self.references.1.notify_all();
    }

    /// `rmmod`, as often as it takes: as long as there are references it says "in use".
    pub fn unload(&self) {
        let mut references = self.references.0.lock().unwrap();
        while references.count != 0 {
            references = self.references.1.wait(references).unwrap();
        }
        references.going = true;
    }

    /// A write of `DMA`. It sleeps in the middle (it takes mutexes), and a sleeping task is no reader to tasks-RCU.
    pub fn write(module: &Arc<Self>, task: usize) {
        let entered = module.readers[task].read(|| {
            if !module.ours.load(Ordering::Relaxed) {
                return false;
            }
            module.use_text();
            module.in_flight.fetch_add(1, Ordering::Acquire);
            module.use_text();
            true
        });
        if !entered {
            return;
        }
        // If the module is going the write is passed on; if not, a domain that is being cleaned up holds a reference.
        if module.get() {
            let mut group = module.group.lock().unwrap();
            module.use_text();
            if group.strict {
                module.put();
            } else {
                group.strict = true;
                group.in_clean_up = true;
                module.cleaners.raise();
                let its = Arc::clone(module);
                let sent = thread::spawn(move || its.clean_up());
                module.sent.lock().unwrap().push(sent);
            }
        }
        module.use_text();
        module.readers[task].read(|| {
            module.use_text();
            module.in_flight.fetch_sub(1, Ordering::Release);
            {
                let _guard = module.went.0.lock().unwrap();
                module.went.1.notify_all();
            }
            // The return from the store.
            module.use_text();
        });
    }

    fn clean_up(&self) {
        self.use_text();
        self.group.lock().unwrap().in_clean_up = false;
        self.put();
        // The return from the cleaner, which may have slept meanwhile.
        self.use_text();
        self.cleaners.lower();
    }

    /// The model is over.
    pub fn ends(&self) {
        let sent = std::mem::take(&mut *self.sent.lock().unwrap());
        for cleaner in sent {
            cleaner.join().unwrap();
        }
        check(!self.group.lock().unwrap().in_clean_up, property::LEFT);
        check(!self.ours.load(Ordering::SeqCst), property::TEXT);
    }
}

impl Exit for &Module {
    fn wait_for_cleaner(&mut self) {
        self.cleaners.wait_for_zero();
    }

    fn restore_store(&mut self) {
        self.ours.store(false, Ordering::SeqCst);
    }

    fn wait_for_readers(&mut self) {
        GracePeriod::begin(&self.readers).wait();
    }

    fn wait_for_writers(&mut self) {
        let mut guard = self.went.0.lock().unwrap();
        while self.in_flight.load(Ordering::Acquire) != 0 {
            guard = self.went.1.wait(guard).unwrap();
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Grace periods: what tasks-RCU and RCU together promise, and nothing more.

use loom::sync::{Condvar, Mutex};

/// A task that may be in a read-side section: anything between two voluntary context switches.
///
/// Each reader has a lock of its own. A grace period then orders exactly what it must: a section that it does not wait
/// for sees all that was written before it, and all that a section did which it waited for is seen after it.
pub struct Reader {
    section: Mutex<Section>,
    left: Condvar,
}

#[derive(Clone, Copy, Default, PartialEq)]
struct Section {
    inside: bool,
    number: u32,
}

impl Reader {
    pub fn new() -> Self {
        Self {
            section: Mutex::new(Section::default()),
            left: Condvar::new(),
        }
    }

    /// Runs `section` as one read-side section.
    pub fn read<T>(&self, section: impl FnOnce() -> T) -> T {
        {
            let mut state = self.section.lock().unwrap();
            state.inside = true;
            state.number += 1;
        }
        let result = section();
        self.section.lock().unwrap().inside = false;
        self.left.notify_all();
        result
    }

    /// The task goes to sleep in the middle of its section. To tasks-RCU the section has ended; it is in a new one when it
    /// wakes up.
    pub fn asleep<T>(&self, wake: impl FnOnce() -> T) -> T {
        self.section.lock().unwrap().inside = false;
        self.left.notify_all();
        let result = wake();
        let mut state = self.section.lock().unwrap();
        state.inside = true;
        state.number += 1;
        result
    }

    fn wait(&self, begun: Section) {
        if !begun.inside {
            return;
        }
        let mut state = self.section.lock().unwrap();
        while *state == begun {
            state = self.left.wait(state).unwrap();
        }
    }
}

/// A grace period that has begun.
pub struct GracePeriod<'a> {
    readers: &'a [Reader],
    begun: Vec<Section>,
}

impl<'a> GracePeriod<'a> {
    pub fn begin(readers: &'a [Reader]) -> Self {
        let sections = readers.iter().map(|one| *one.section.lock().unwrap());
        Self {
            readers,
            begun: sections.collect(),
        }
    }

    /// Waits for every section that was there when it began.
    pub fn wait(self) {
        let sections = self.readers.iter().zip(self.begun);
        sections.for_each(|(reader, begun)| reader.wait(begun));
    }
}

/// A spin lock of a `PREEMPT_RT` kernel: whoever waits for it sleeps.
pub struct SleepingLock {
    state: Mutex<Lock>,
    changed: Condvar,
}

#[derive(Clone, Copy, Default)]
struct Lock {
    held: bool,
    /// Tasks that sleep.
    waiters: u32,
}

impl SleepingLock {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(Lock::default()),
            changed: Condvar::new(),
        }
    }

    /// Takes the lock, in a section of `reader` or in none.
    pub fn lock(&self, reader: Option<&Reader>) {
        let mut state = self.state.lock().unwrap();
        if state.held {
            state.waiters += 1;
            drop(state);
            match reader {
                Some(reader) => reader.asleep(|| self.sleep()),
                None => self.sleep(),
            }
        } else {
            state.held = true;
        }
    }

    fn sleep(&self) {
        let mut state = self.state.lock().unwrap();
        while state.held {
            state = self.changed.wait(state).unwrap();
        }
        state.held = true;
        state.waiters -= 1;
    }

    pub fn unlock(&self) {
        self.state.lock().unwrap().held = false;
        self.changed.notify_all();
    }

    /// Whether nobody holds the lock or sleeps for it.
    pub fn is_free(&self) -> bool {
        let state = self.state.lock().unwrap();
        !state.held && state.waiters == 0
    }

    /// Waits until that is so. Stands in for looking again and again, which a model checker would do for ever.
    pub fn wait_until_free(&self) {
        let mut state = self.state.lock().unwrap();
        while state.held || state.waiters > 0 {
            state = self.changed.wait(state).unwrap();
        }
    }
}

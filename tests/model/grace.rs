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

    fn wait(&self) {
        let mut state = self.section.lock().unwrap();
        let begun = *state;
        while begun.inside && *state == begun {
            state = self.left.wait(state).unwrap();
        }
    }
}

/// Waits for every section that had begun.
pub fn wait_for(readers: &[Reader]) {
    readers.iter().for_each(Reader::wait);
}

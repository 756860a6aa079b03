// SPDX-License-Identifier: GPL-2.0-only
//! What is true of a modelled machine, whatever its tasks have seen of it, and the properties that must hold.
//!
//! This is not part of the machine: it has no scheduling points and orders nothing.

use std::sync::{Mutex, MutexGuard};

/// Pages the tasks of a model unmap, each once.
pub const PAGES: usize = 3;

/// The properties. A model fails with the text of the one that is broken.
pub mod property {
    pub const STRICT: &str =
        "an unmap returned and its range is reachable, though the domain is said to be strict";
    pub const REUSE: &str = "an IOVA is given back while the device still reaches what was there";
    pub const NULL: &str = "fq_domain is NULL and followed";
    pub const RINGS: &str = "the rings are used and are not there";
    pub const ENTRY: &str = "the strict entry is used and is not there";
    pub const HALF: &str = "what was published is seen half made";
    pub const LATE: &str = "an IOVA is queued and no timer will come for it";
    pub const WALK: &str = "the final flush and the timer walk the rings at the same time";
    pub const LEAK: &str = "rings are freed with IOVAs in them";
    pub const LABEL: &str = "the type says DMA before the domain is strict";
    pub const COST: &str = "the hot path is not what it was";
    pub const LEFT: &str = "something is left behind";
    pub const DOMAIN: &str = "the domain is used and is not there";
    pub const BYPASS: &str =
        "a writer waits in the kernel's store for the mutex that a switch holds";
    pub const TEXT: &str = "the module's text is used and is not there";
    pub const STUCK: &str = "everybody waits for somebody";
}

/// What a broken property's line begins with.
pub const BROKEN: &str = "broken: ";

/// Ends the process if the property is broken, without unwinding.
#[expect(clippy::print_stderr, reason = "the one who explores reads it there")]
pub fn check(holds: bool, property: &str) {
    if !holds {
        eprintln!("{BROKEN}{property}");
        std::process::exit(1);
    }
}

#[derive(Clone, Copy, Default)]
struct Page {
    unmapped: bool,
    /// In the IOTLB. The device may look at a mapped page at any time, so that is where each one is.
    cached: bool,
    returned: bool,
    given_back: bool,
}

/// See the module.
pub struct Ghost(Mutex<Truth>);

struct Truth {
    pages: [Page; PAGES],
    strict: bool,
    rings: bool,
    /// Nobody holds the lock of a ring or sleeps for it, nor will.
    quiet: bool,
    /// The final flush has begun.
    last_flush: bool,
    /// The strict entries there have been, and which are there.
    entries: Vec<bool>,
    domain: bool,
    text: bool,
    switches: u32,
    /// How many there have been; how many are not finished; whether the group's last reference was put.
    switched: u32,
    unfinished: u32,
    group: bool,
}

impl Ghost {
    pub fn lazy() -> Self {
        let page = Page {
            cached: true,
            ..Page::default()
        };
        Self(Mutex::new(Truth {
            pages: [page; PAGES],
            strict: false,
            rings: true,
            quiet: false,
            last_flush: false,
            entries: Vec::new(),
            domain: true,
            text: true,
            switches: 0,
            switched: 0,
            unfinished: 0,
            group: true,
        }))
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// The page table entry is cleared.
    pub fn clear(&self, page: usize) {
        self.truth().pages[page].unmapped = true;
    }

    /// The IOTLB forgets one page.
    pub fn invalidate(&self, page: usize) {
        let page = &mut self.truth().pages[page];
        page.cached = !page.unmapped;
    }

    /// The IOTLB forgets everything; what is still mapped may be back at once.
    pub fn invalidate_all(&self) {
        for page in &mut self.truth().pages {
            page.cached = !page.unmapped;
        }
    }

    /// The page's IOVA can be used anew.
    pub fn give_back(&self, page: usize) {
        let page = &mut self.truth().pages[page];
        let reachable = page.cached;
        page.given_back = true;
        check(!reachable, property::REUSE);
    }

    /// The unmap of this page returns to the driver, which may use the memory for something else.
    pub fn unmap_returns(&self, page: usize) {
        let mut truth = self.truth();
        truth.pages[page].returned = true;
        let reachable = truth.strict && truth.pages[page].cached;
        drop(truth);
        check(!reachable, property::STRICT);
    }

    /// The domain is said to be strict.
    pub fn say_strict(&self) {
        let mut truth = self.truth();
        truth.strict = true;
        let reachable = truth.pages.iter().any(|page| page.returned && page.cached);
        drop(truth);
        check(!reachable, property::STRICT);
    }

    /// The domain is lazy from here on.
    pub fn say_lazy(&self) {
        let mut truth = self.truth();
        truth.strict = false;
        truth.quiet = false;
        truth.last_flush = false;
    }

    /// Whoever has queued by now is known to the switch.
    pub fn rings_are_quiet(&self) {
        self.truth().quiet = true;
    }

    pub fn flush_for_the_last_time(&self) {
        self.truth().last_flush = true;
    }

    /// An IOVA is queued.
    pub fn queue(&self) {
        let late = self.truth().last_flush;
        check(!late, property::LATE);
    }

    /// Somebody who has queued an IOVA finds the timer shut down. The final flush still comes, but whether that is soon
    /// is only known when the switch waits for nobody any more.
    pub fn timer_is_gone(&self) {
        let soon = self.truth().quiet;
        check(soon, property::LATE);
    }

    pub fn is_strict(&self) -> bool {
        self.truth().strict
    }

    pub fn set_rings(&self, there: bool) {
        self.truth().rings = there;
    }

    pub fn use_rings(&self) {
        let there = self.truth().rings;
        check(there, property::RINGS);
    }

    /// A strict entry is made. Which one it is, from 0.
    pub fn new_entry(&self) -> usize {
        let mut truth = self.truth();
        truth.entries.push(true);
        truth.entries.len() - 1
    }

    pub fn free_entry(&self, entry: usize) {
        self.truth().entries[entry] = false;
    }

    pub fn use_entry(&self, entry: usize) {
        let there = self.truth().entries[entry];
        check(there, property::ENTRY);
    }

    pub fn free_domain(&self) {
        self.truth().domain = false;
    }

    pub fn has_domain(&self) -> bool {
        self.truth().domain
    }

    pub fn use_domain(&self) {
        let there = self.truth().domain;
        check(there, property::DOMAIN);
    }

    pub fn begin_switch(&self) {
        let mut truth = self.truth();
        truth.switches += 1;
        truth.switched += 1;
        truth.unfinished += 1;
    }

    pub fn finish_switch(&self) {
        self.truth().unfinished -= 1;
    }

    pub fn put_group(&self) {
        self.truth().group = false;
    }

    /// There was a switch, and nothing of it is left, nor a reference of its group.
    pub fn all_served(&self) {
        let truth = self.truth();
        let clean = truth.switched > 0 && truth.unfinished == 0 && !truth.group;
        drop(truth);
        check(clean, property::LEFT);
    }

    pub fn end_switch(&self) {
        self.truth().switches -= 1;
    }

    /// A writer comes to the kernel's own store without us.
    pub fn bypass(&self) {
        let alone = self.truth().switches == 0;
        check(alone, property::BYPASS);
    }

    pub fn free_text(&self) {
        self.truth().text = false;
    }

    pub fn use_text(&self) {
        let there = self.truth().text;
        check(there, property::TEXT);
    }

    /// All pages have been unmapped, and all IOVAs given back; no strict entry and no rings are left.
    pub fn nothing_left(&self, pages: usize) {
        let truth = self.truth();
        let done = truth.pages[..pages]
            .iter()
            .all(|page| page.unmapped && page.given_back && !page.cached);
        let clean = done && !truth.rings && !truth.entries.contains(&true);
        drop(truth);
        check(clean, property::LEFT);
    }
}

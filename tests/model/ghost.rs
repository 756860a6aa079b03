// SPDX-License-Identifier: GPL-2.0-only
//! What is true of a modelled machine, whatever its tasks have seen of it, and the properties that must hold.
//!
//! This is not part of the machine: it has no scheduling points and orders nothing. So what is told here must happen
//! beside an access that the model checker knows, of an object that everybody else accesses whose order matters.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard};

/// Pages the tasks of a model unmap, each once.
pub const PAGES: usize = 4;

/// The properties. A model fails with the text of the one that is broken.
pub mod property {
    pub const STRICT: &str =
        "an unmap returned and its range is reachable, though the domain is said to be strict";
    pub const REUSE: &str = "an IOVA is given back while the device still reaches what was there";
    pub const TABLE: &str = "a page of the page table is freed while the IOMMU still reaches it";
    pub const TWICE: &str = "the same is given back twice";
    pub const EMPTY: &str = "the module gives back a range of no pages";
    pub const NULL: &str = "fq_domain is NULL and followed";
    pub const RINGS: &str = "the rings are used and are not there";
    pub const BEYOND: &str = "an entry is written beyond its ring";
    pub const LINKS: &str = "page table pages are spliced to a list that is not initialised";
    pub const ENTRY: &str = "the strict entry is used and is not there";
    pub const HALF: &str = "what was published is seen half made";
    pub const LATE: &str = "an IOVA is queued and no timer will come for it";
    pub const LEAK: &str = "something is left where nobody will find it";
    pub const COUNT: &str = "a range is given up and not counted";
    pub const ARMED: &str = "an unmap of a lazy domain finds an armed ring";
    pub const LABEL: &str = "the type does not say what the domain is";
    pub const COST: &str = "the hot path is not what it was";
    pub const LEFT: &str = "something is left behind";
    pub const DOMAIN: &str = "the domain is used and is not there";
    pub const TEXT: &str = "the module's text is used and is not there";
    pub const MUTEX: &str = "the group's mutex is held across a grace period";
    pub const TRIP: &str = "an invariant is seen broken, and the module trips";
    pub const ENDLESS: &str = "a tighten goes over the rings without an end";
    pub const STUCK: &str = "everybody waits for somebody";
}

/// What a broken property's line begins with.
pub const BROKEN: &str = "broken: ";

/// Whether the module has tripped in any run so far.
static TRIPPED: AtomicBool = AtomicBool::new(false);

/// What is to be said when all runs are over. Only then: what else is broken says more than a tripwire does.
pub fn check_tripwires() {
    check(!TRIPPED.load(Ordering::Relaxed), property::TRIP);
}

/// What happened in this run, for people (`MODEL_TRACE=1`).
static TRACE: Mutex<Vec<String>> = Mutex::new(Vec::new());

/// Notes what happened.
pub fn note(what: impl FnOnce() -> String) {
    if std::env::var_os("MODEL_TRACE").is_some() {
        TRACE.lock().unwrap().push(what());
    }
}

/// Ends the process if the property is broken, without unwinding.
#[expect(clippy::print_stderr, reason = "the one who explores reads it there")]
pub fn check(holds: bool, property: &str) {
    if !holds {
        eprintln!("{BROKEN}{property}");
        if std::env::var_os("MODEL_TRACE").is_some() {
            eprintln!("{}", TRACE.lock().unwrap().join("\n"));
        }
        std::process::exit(1);
    }
}

#[derive(Clone, Copy, Default, PartialEq)]
enum Range {
    #[default]
    InUse,
    GivenBack,
    /// Nobody knows of it any more; its IOVA is not used until the domain goes.
    GivenUp,
    /// The same, and the kernel did that alone.
    Lost,
}

#[derive(Clone, Copy, Default)]
struct Page {
    unmapped: bool,
    /// In the IOTLB. The device may look at a mapped page at any time, so that is where each one is.
    cached: bool,
    returned: bool,
    range: Range,
    /// Whether the page of the page table that mapped it was freed. An IOMMU may reach it as long as it caches the page.
    table_freed: bool,
}

/// See the module.
pub struct Ghost(Mutex<Truth>);

struct Truth {
    pages: [Page; PAGES],
    strict: bool,
    /// The strict entries there have been, and which are there.
    entries: Vec<bool>,
    /// How often a strict entry was published, and whether it was withdrawn since then.
    published: u32,
    restored: bool,
    domain: bool,
    /// Whether the cleaner holds the group's mutex.
    mutex: bool,
    tripped: bool,
}

/// What an unmap found in place of its entry: whether that was the original one, of a domain that was made lazy again, and
/// how many tightens there had been.
#[derive(Clone, Copy)]
pub struct Found(Option<u32>);

/// Who gives back a range.
#[derive(Clone, Copy, PartialEq, Debug)]
pub enum Giver {
    Kernel,
    Module,
}

impl Ghost {
    pub fn lazy() -> Self {
        TRACE.lock().unwrap().clear();
        Self(Mutex::new(Truth {
            pages: Truth::MAPPED,
            strict: false,
            entries: Vec::new(),
            published: 0,
            restored: false,
            domain: true,
            mutex: false,
            tripped: false,
        }))
    }

    fn truth(&self) -> MutexGuard<'_, Truth> {
        self.0.lock().unwrap_or_else(|broken| broken.into_inner())
    }

    /// The page table entry is cleared.
    pub fn clear(&self, page: usize) {
        note(|| format!("clear {page}"));
        self.truth().pages[page].unmapped = true;
    }

    /// The IOTLB forgets one page.
    pub fn invalidate(&self, page: usize) {
        note(|| format!("invalidate {page}"));
        let page = &mut self.truth().pages[page];
        page.cached = !page.unmapped;
    }

    /// The IOTLB forgets everything; what is still mapped may be back at once.
    pub fn invalidate_all(&self) {
        note(|| "flush".to_owned());
        for page in &mut self.truth().pages {
            page.cached = !page.unmapped;
        }
    }

    /// The page's IOVA can be used anew.
    pub fn give_back(&self, page: usize, pages: usize, giver: Giver) {
        note(|| format!("{giver:?} gives back {page}, {pages} pages"));
        if pages == 0 {
            // The kernel does that itself, with whatever was unmapped of no bytes.
            check(giver == Giver::Kernel, property::EMPTY);
            return;
        }
        let page = &mut self.truth().pages[page];
        let (reachable, range) = (page.cached, page.range);
        page.range = Range::GivenBack;
        check(range == Range::InUse, property::TWICE);
        check(!reachable, property::REUSE);
    }

    /// The page's IOVA is forgotten.
    pub fn give_up(&self, page: usize) {
        note(|| format!("give up {page}"));
        self.truth().pages[page].range = Range::GivenUp;
    }

    /// The page's range, and where the page is that mapped it, is forgotten by the kernel, without any doing of the module.
    pub fn lose(&self, page: usize) {
        note(|| format!("lose {page}"));
        self.truth().pages[page].range = Range::Lost;
    }

    pub fn given_up(&self) -> usize {
        let truth = self.truth();
        let given_up = truth.pages.iter().filter(|one| one.range == Range::GivenUp);
        given_up.count()
    }

    /// The page of the page table that mapped this page is freed.
    pub fn free_table(&self, page: usize) {
        note(|| format!("free table {page}"));
        let page = &mut self.truth().pages[page];
        let (reachable, freed) = (page.cached, page.table_freed);
        page.table_freed = true;
        check(!freed, property::TWICE);
        check(!reachable, property::TABLE);
    }

    /// The unmap of this page returns to the driver, which may use the memory for something else.
    pub fn unmap_returns(&self, page: usize) {
        note(|| format!("return {page}"));
        let mut truth = self.truth();
        truth.pages[page].returned = true;
        let reachable = truth.strict && truth.pages[page].cached;
        drop(truth);
        check(!reachable, property::STRICT);
    }

    /// The domain is said to be strict.
    pub fn say_strict(&self) {
        note(|| "strict".to_owned());
        let mut truth = self.truth();
        truth.strict = true;
        let reachable = truth.pages.iter().any(|page| page.returned && page.cached);
        drop(truth);
        check(!reachable, property::STRICT);
    }

    /// The domain may be lazy from here on.
    pub fn say_lazy(&self) {
        note(|| "lazy".to_owned());
        self.truth().strict = false;
    }

    pub fn is_strict(&self) -> bool {
        self.truth().strict
    }

    /// A strict entry is made. Which one it is, from 0.
    pub fn new_entry(&self) -> usize {
        let mut truth = self.truth();
        truth.entries.push(true);
        truth.entries.len() - 1
    }

    pub fn free_entry(&self, entry: usize) {
        note(|| format!("free copy {entry}"));
        self.truth().entries[entry] = false;
    }

    pub fn use_entry(&self, entry: usize) {
        let there = self.truth().entries[entry];
        check(there, property::ENTRY);
    }

    pub fn no_entries(&self) -> bool {
        !self.truth().entries.contains(&true)
    }

    pub fn publish(&self) {
        note(|| "publish".to_owned());
        let mut truth = self.truth();
        truth.published += 1;
        truth.restored = false;
    }

    pub fn restore(&self) {
        note(|| "restore".to_owned());
        self.truth().restored = true;
    }

    pub fn find_entry(&self, original: bool) -> Found {
        let truth = self.truth();
        Found((original && truth.restored).then_some(truth.published))
    }

    /// An unmap finds an armed ring.
    pub fn find_armed(&self, found: Found) {
        note(|| "armed ring".to_owned());
        let relaxed = found.0 == Some(self.truth().published);
        check(!relaxed, property::ARMED);
    }

    pub fn free_domain(&self) {
        note(|| "free domain".to_owned());
        self.truth().domain = false;
    }

    /// The domain is another one, with all pages mapped.
    pub fn replace_domain(&self) {
        let mut truth = self.truth();
        truth.domain = true;
        truth.pages = Truth::MAPPED;
        truth.strict = false;
    }

    pub fn use_domain(&self) {
        let there = self.truth().domain;
        check(there, property::DOMAIN);
    }

    pub fn trip(&self) {
        note(|| "trip".to_owned());
        self.truth().tripped = true;
        TRIPPED.store(true, Ordering::Relaxed);
    }

    pub fn is_tripped(&self) -> bool {
        self.truth().tripped
    }

    pub fn cleaner_has_mutex(&self, has: bool) {
        self.truth().mutex = has;
    }

    pub fn wait_for_tasks(&self) {
        let held = self.truth().mutex;
        check(!held, property::MUTEX);
    }

    /// The first pages have been unmapped, and are unreachable; their IOVAs, and the pages that mapped them, are given back
    /// or were counted as given up.
    pub fn all_unmapped(&self, pages: usize) {
        let truth = self.truth();
        let pages_of_tables = truth.pages[..pages]
            .iter()
            .all(|page| page.table_freed || page.range == Range::Lost);
        let unmapped = truth.pages[..pages]
            .iter()
            .all(|page| page.unmapped && page.range != Range::InUse)
            && pages_of_tables;
        let reachable = truth.pages[..pages].iter().any(|page| page.cached);
        drop(truth);
        check(!reachable, property::LATE);
        check(unmapped, property::LEAK);
    }
}

impl Truth {
    const MAPPED: [Page; PAGES] = [Page {
        unmapped: false,
        cached: true,
        returned: false,
        range: Range::InUse,
        table_freed: false,
    }; PAGES];
}

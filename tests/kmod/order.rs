// SPDX-License-Identifier: GPL-2.0-only

//! The order of a tighten, against a sequential model of who can still reach what.
//!
//! This catches a step that is missing or in the wrong place. It says nothing about
//! interleavings within a step, or memory ordering.

use crate::protocol::{tighten, Machine};

/// Entries that are in the rings when a switch begins, and that stragglers add before I1.
const PENDING: u64 = 7;
const LATE: u64 = 3;

/// What unmaps, the timer and the switch itself can still do to a domain.
///
/// Each `may_*` flag says that such a task may exist; only a grace period clears it.
struct Domain {
    /// The strict entry is what new unmaps find.
    published: bool,
    /// A task may be in an unmap that did not pass the strict entry: it may still queue.
    may_queue: bool,
    timer: bool,
    queued: u64,
    strict_reported: bool,
    fq_domain: bool,
    /// A task may hold a sample taken while `fq_domain` was set.
    may_hold_stale_sample: bool,
    /// A task may be on its way through the strict entry.
    may_be_inside_entry: bool,
    rings: bool,
    label: &'static str,
    entry: bool,
}

impl Domain {
    fn lazy() -> Self {
        Self {
            published: false,
            may_queue: true,
            timer: true,
            queued: PENDING,
            strict_reported: false,
            fq_domain: true,
            may_hold_stale_sample: true,
            may_be_inside_entry: false,
            rings: true,
            label: "DMA-FQ",
            entry: true,
        }
    }
}

impl Machine for Domain {
    fn publish_strict_entry(&mut self) {
        assert!(self.entry);
        self.published = true;
        self.may_be_inside_entry = true;
    }

    fn wait_for_readers(&mut self) {
        if self.published && self.may_queue {
            self.queued += LATE;
            self.may_queue = false;
        }
        if !self.fq_domain {
            self.may_hold_stale_sample = false;
        }
        if !self.published {
            self.may_be_inside_entry = false;
        }
    }

    fn shut_down_timer(&mut self) {
        assert!(
            !self.may_queue,
            "entries on quiet CPUs would never be flushed"
        );
        self.timer = false;
    }

    fn flush_and_drain(&mut self) -> u64 {
        assert!(!self.timer, "the timer walks the rings at the same time");
        assert!(self.fq_domain, "the flush goes through fq_domain");
        std::mem::take(&mut self.queued)
    }

    fn strict_from_here(&mut self) {
        assert!(
            self.published && !self.may_queue,
            "somebody may still queue"
        );
        assert_eq!(self.queued, 0, "unmapped ranges are still reachable");
        self.strict_reported = true;
    }

    fn stop_queueing(&mut self) {
        assert!(
            !self.timer && !self.may_queue,
            "the timer or a full ring would find NULL"
        );
        self.fq_domain = false;
    }

    fn restore_entry(&mut self) {
        assert!(
            !self.fq_domain && !self.may_hold_stale_sample,
            "a stale sample would queue"
        );
        self.published = false;
    }

    fn free_rings(&mut self) {
        assert!(!self.timer && !self.may_queue && !self.may_hold_stale_sample);
        assert_eq!(self.queued, 0, "IOVAs and page tables would leak");
        self.rings = false;
    }

    fn label_strict(&mut self) {
        assert!(
            self.strict_reported,
            "the label must not run ahead of the protection"
        );
        self.label = "DMA";
    }

    fn free_strict_entry(&mut self) {
        assert!(
            !self.published && !self.may_be_inside_entry,
            "somebody is inside"
        );
        self.entry = false;
    }
}

#[test]
fn tighten_leaves_a_strict_domain_with_nothing_left_over() {
    let mut domain = Domain::lazy();
    let drained = tighten(&mut domain);
    assert_eq!(
        drained,
        PENDING + LATE,
        "what stragglers queued is flushed too"
    );
    assert!(domain.strict_reported);
    assert_eq!(domain.label, "DMA");
    assert!(!domain.published, "the hot path is the original again");
    assert!(!domain.fq_domain && !domain.rings && !domain.timer && !domain.entry);
}

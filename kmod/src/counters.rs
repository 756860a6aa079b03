// SPDX-License-Identifier: GPL-2.0-only

//! The numbers shown under `/sys/kernel/iommu_live/`.

use crate::ffi::{iommu_live_count_strict_entry, iommu_live_strict_entries};
use core::ffi::CStr;
use kernel::sync::atomic::{Atomic, Relaxed};

/// A number shown under `/sys/kernel/iommu_live/`.
pub(crate) struct Counter {
    /// File name.
    pub(crate) name: &'static CStr,
    value: Atomic<u64>,
    /// Counted for each CPU by itself, in `helpers.c`.
    per_cpu: bool,
}

impl Counter {
    const fn new(name: &'static CStr) -> Self {
        Self {
            name,
            value: Atomic::new(0),
            per_cpu: false,
        }
    }

    const fn per_cpu(name: &'static CStr) -> Self {
        Self {
            name,
            value: Atomic::new(0),
            per_cpu: true,
        }
    }

    /// Adds `n`.
    pub(crate) fn add(&self, n: u64) {
        self.value.add(n, Relaxed);
    }

    /// Makes it `n`.
    pub(crate) fn set(&self, n: u64) {
        self.value.store(n, Relaxed);
    }

    /// Makes it `n`, if that is more.
    pub(crate) fn raise_to(&self, n: u64) {
        let mut now = self.value.load(Relaxed);
        while now < n {
            match self.value.cmpxchg(now, n, Relaxed) {
                Ok(_) => return,
                Err(found) => now = found,
            }
        }
    }

    /// The current value.
    pub(crate) fn get(&self) -> u64 {
        if self.per_cpu {
            // SAFETY: It sums up numbers.
            return unsafe { iommu_live_strict_entries() };
        }
        self.value.load(Relaxed)
    }
}

/// Live tightens done.
pub(crate) static TIGHTENED: Counter = Counter::new(c"tightened");
/// Live relaxes done, by this module or by the kernel's own code after our checks.
pub(crate) static RELAXED: Counter = Counter::new(c"relaxed");
/// Writes without the capabilities.
pub(crate) static DENIED: Counter = Counter::new(c"denied");
/// Writes refused by this module.
pub(crate) static REFUSED: Counter = Counter::new(c"refused");
/// Writes that failed, here or in the kernel's own code.
pub(crate) static FAILED: Counter = Counter::new(c"failed");
/// Writes handed to the kernel's own code.
pub(crate) static PASSED_ON: Counter = Counter::new(c"passed_on");
/// Flush queue entries that the flushes of tightens covered.
pub(crate) static DRAINED: Counter = Counter::new(c"drained");
/// Unmaps that went through a strict entry.
static SHIMMED_UNMAPS: Counter = Counter::per_cpu(c"shimmed_unmaps");
/// How long the last tighten took until the domain was strict, in nanoseconds.
pub(crate) static LAST_STRICT_NS: Counter = Counter::new(c"last_strict_ns");
/// Unmaps that came to an armed ring: each flushed the whole IOTLB before it returned.
pub(crate) static LATE_COMERS: Counter = Counter::new(c"late_comers");
/// Ranges of late comers that were given back.
pub(crate) static COLLECTED: Counter = Counter::new(c"collected");
/// Ranges of late comers that are lost until their domain is freed.
pub(crate) static GIVEN_UP: Counter = Counter::new(c"given_up");
/// Clean-ups that were brought to their end.
pub(crate) static CLEANED_UP: Counter = Counter::new(c"cleaned_up");
/// The longest time for which this module had a group's mutex, in nanoseconds, less the time in
/// which the holder waited for a CPU.
pub(crate) static LONGEST_HOLD_NS: Counter = Counter::new(c"longest_hold_ns");
/// 1 after an invariant was seen broken: nothing is switched any more.
pub(crate) static TRIPPED: Counter = Counter::new(c"tripped");

/// All counters, in the order in which they are documented.
pub(crate) static COUNTERS: [&Counter; 15] = [
    &TIGHTENED,
    &RELAXED,
    &REFUSED,
    &DENIED,
    &FAILED,
    &PASSED_ON,
    &DRAINED,
    &SHIMMED_UNMAPS,
    &LAST_STRICT_NS,
    &LATE_COMERS,
    &COLLECTED,
    &GIVEN_UP,
    &CLEANED_UP,
    &LONGEST_HOLD_NS,
    &TRIPPED,
];

/// Counts an unmap that went through a strict entry. Safe in any context.
pub(crate) fn count_strict_entry() {
    // SAFETY: It adds to a number of this CPU.
    unsafe { iommu_live_count_strict_entry() };
}

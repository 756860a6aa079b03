// SPDX-License-Identifier: GPL-2.0-only

//! Grace periods that are looked at now and then instead of waited for, so that whoever looks can
//! do something else meanwhile, and does not count as a task that hangs.

use crate::ffi::{
    iommu_live_grace_alloc, iommu_live_grace_begin, iommu_live_grace_free, iommu_live_grace_over,
    iommu_live_nap, Grace,
};
use core::ptr::NonNull;
use kernel::prelude::*;

/// What is waited for, in this order.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Part {
    /// Nothing yet.
    Idle,
    /// Tasks-RCU: every task that was in the kernel has chosen to sleep, or was in user mode.
    Tasks,
    /// RCU: sections that run with preemption, bottom halves or interrupts off, on idle CPUs too.
    Sections,
    /// Tasks-RCU again, on `PREEMPT_RT`. A BPF program at a trace point in the middle of an unmap may
    /// sleep there for a lock, within an RCU section. It has left that by now; this waits for the rest
    /// of its unmap. A probe that sleeps for a lock without RCU (another module's, at `trace_unmap`)
    /// is not waited for: rings may be freed under it. Strictness does not rest on that.
    TasksAgain,
}

/// A grace period of both kinds of RCU: when it is over, everybody who was in an unmap when it began,
/// and has not slept there, has left it; preempted tasks too. The audited drivers do not sleep there
/// (`drivers.rs`).
///
/// To drop it while it is pending waits for it.
///
/// # Invariants
///
/// `grace` is one of `helpers.c`, which this owns. A callback is pending there only while `part` is
/// not [`Part::Idle`].
pub(crate) struct GracePeriod {
    grace: NonNull<Grace>,
    part: Part,
}

// SAFETY: Any thread may look at it, and begin the next part.
unsafe impl Send for GracePeriod {}
// SAFETY: Nothing is done through a shared reference.
unsafe impl Sync for GracePeriod {}

impl GracePeriod {
    /// Allocates one that has not begun. Fails with `ENOMEM`.
    pub(crate) fn new() -> Result<Self> {
        // SAFETY: Callers may sleep.
        let grace = NonNull::new(unsafe { iommu_live_grace_alloc() }).ok_or(ENOMEM)?;
        // INVARIANT: Just allocated.
        Ok(Self {
            grace,
            part: Part::Idle,
        })
    }

    /// Begins one. Does nothing while one is pending.
    pub(crate) fn begin(&mut self) {
        if self.part == Part::Idle {
            self.start(Part::Tasks);
        }
    }

    fn start(&mut self, part: Part) {
        self.part = part;
        // SAFETY: Ours, and no callback is pending there: the part before this one is over.
        unsafe { iommu_live_grace_begin(self.grace.as_ptr(), part != Part::Sections) };
    }

    /// Whether it is over. It can be begun again then.
    pub(crate) fn is_over(&mut self) -> bool {
        if self.part == Part::Idle {
            return true;
        }
        // SAFETY: Ours, and begun.
        if !unsafe { iommu_live_grace_over(self.grace.as_ptr()) } {
            return false;
        }
        match self.part {
            Part::Tasks => self.start(Part::Sections),
            Part::Sections if cfg!(CONFIG_PREEMPT_RT) => self.start(Part::TasksAgain),
            _ => self.part = Part::Idle,
        }
        self.part == Part::Idle
    }

    /// Waits for it. Sleeps.
    pub(crate) fn wait(&mut self) {
        while !self.is_over() {
            // SAFETY: Callers may sleep.
            unsafe { iommu_live_nap(1) };
        }
    }
}

impl Drop for GracePeriod {
    fn drop(&mut self) {
        self.wait();
        // SAFETY: Ours, and no callback is pending.
        unsafe { iommu_live_grace_free(self.grace.as_ptr()) };
    }
}

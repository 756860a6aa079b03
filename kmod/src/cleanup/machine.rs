// SPDX-License-Identifier: GPL-2.0-only

//! The protocol's [`Machine`] on the running kernel: one domain, with its group's mutex held.

use super::{Cleanup, State, Target, ARMED, CLEARED, RESTORED, TRIPPED};
use crate::{
    counters,
    ffi::{iommu_live_bh_disable, iommu_live_bh_enable, iommu_live_cond_resched, iommu_live_warn},
    private_structs::{Cookie, Domain, LockedGroup},
    protocol::{Label, Machine, Queueing, Seen, Step, Timer},
    ring::Ring,
    unmap_table::{Operations, Table},
};
use core::{
    mem::forget,
    ptr::{eq, null_mut},
};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed, Release};

/// A clean-up with its group's mutex held.
pub(super) struct Bound<'a> {
    pub(super) cleanup: &'a Cleanup,
    pub(super) state: &'a State,
    pub(super) locked: &'a LockedGroup<'a>,
}

/// The domain that was tightened, while it is still the group's.
struct Live<'a> {
    target: Target,
    domain: Domain<'a>,
    cookie: Cookie<'a>,
    slot: &'a Atomic<*mut Operations>,
}

impl<'a> Bound<'a> {
    /// `None` if it is not the group's domain any more. There may be another one at its address:
    /// [`Self::look`] tells, and the protocol looks first.
    fn live(&self) -> Option<Live<'a>> {
        let target = self.state.target.get()?;
        let domain = self.locked.default_domain()?;
        if domain.as_ptr() != target.domain {
            return None;
        }
        let slot = match target.table {
            Table::PageTable => domain.pt_ops()?,
            Table::Domain if domain.is_iommupt() => return None,
            Table::Domain => domain.ops(),
        };
        Some(Live {
            target,
            domain,
            cookie: domain.dma_cookie()?,
            slot,
        })
    }

    fn each_ring(&self, visit: impl FnMut(Ring<'_>, &Live<'a>)) {
        let mut visit = visit;
        if let Some(live) = self.live() {
            // SAFETY: Made by the kernel. The protocol comes here only where it has looked at the
            // domain since the mutex was taken, and found it to be ours with its rings: so they are
            // there. (`live` alone does not tell it from another one at its address.)
            unsafe { live.target.rings.each(|ring| visit(ring, &live)) };
        }
    }

    /// Entries in all rings. Only exact while nobody adds or removes any.
    fn entries(&self) -> u64 {
        let mut sum = 0u64;
        self.each_ring(|ring, _| sum = sum.wrapping_add(ring.entries().into()));
        sum
    }

    /// Counts what late comers there have been, and shows it.
    fn count(&self, collected: u64) {
        let state = self.state;
        let (late, given_up) = (state.late_comers.get(), state.given_up());
        if let Some(live) = self.live() {
            let found = live
                .cookie
                .flushes()
                .saturating_sub(state.flushes_before.get());
            // What was in a slot was somebody's, also of one who came before all rings were armed.
            let found = found.max(state.collected.get().saturating_add(collected));
            state.late_comers.set(late.max(found));
        }
        state.collected.set(state.collected.get() + collected);
        counters::LATE_COMERS.add(state.late_comers.get().saturating_sub(late));
        counters::COLLECTED.add(collected);
        // It may shrink: somebody who has flushed and not yet left its range was counted early.
        counters::GIVEN_UP.add(state.given_up().wrapping_sub(given_up));
        let shown = &self.cleanup.shown;
        shown.late_comers.store(state.late_comers.get(), Relaxed);
        shown.collected.store(state.collected.get(), Relaxed);
        shown.given_up.store(state.given_up(), Relaxed);
    }
}

impl Machine for Bound<'_> {
    fn position(&self) -> (Step, u64) {
        (self.state.step.get(), self.state.generation.get())
    }

    fn set_step(&mut self, step: Step) {
        self.state.step.set(step);
        self.state.generation.set(self.state.generation.get() + 1);
        let shown = &self.cleanup.shown;
        let (shown_step, since) = match step {
            Step::Armed => (ARMED, Some(boot_time_ns())),
            Step::Cleared => {
                self.state.cleared.set(true);
                (CLEARED, None)
            }
            Step::Restored => {
                let strict = self.state.cleared.get()
                    && self.live().is_some_and(|live| {
                        live.domain.domain_type() == bindings::IOMMU_DOMAIN_DMA
                    });
                (RESTORED, (!strict).then_some(0))
            }
            Step::Tripped => (TRIPPED, None),
        };
        shown.step.store(shown_step, Relaxed);
        if let Some(since) = since {
            shown.strict_since.store(since, Relaxed);
        }
    }

    fn look(&self) -> Seen {
        let gone = Seen {
            domain_is_ours: false,
            queueing: Queueing::Other,
            rings_are_ours: false,
            timer: Timer::Other,
            label: Label::Other,
        };
        let Some(live) = self.live() else {
            return gone;
        };
        let Live {
            target,
            domain,
            cookie,
            slot,
        } = live;
        if slot.load(Relaxed) != target.copy {
            return gone;
        }
        let fq_domain = cookie.fq_domain().load(Relaxed);
        Seen {
            domain_is_ours: true,
            queueing: if fq_domain.is_null() {
                Queueing::Off
            } else if eq(fq_domain, target.domain) {
                Queueing::On
            } else {
                Queueing::Other
            },
            rings_are_ours: cookie.rings() == Some(target.rings),
            timer: match cookie.timer_function() {
                None => Timer::ShutDown,
                Some(function) if function as usize == target.timer_function as usize => {
                    Timer::AsFound
                }
                Some(_) => Timer::Other,
            },
            label: match domain.domain_type() {
                bindings::IOMMU_DOMAIN_DMA => Label::Strict,
                bindings::IOMMU_DOMAIN_DMA_FQ => Label::Lazy,
                _ => Label::Other,
            },
        }
    }

    fn publish_strict_entry(&mut self) {
        self.state.drained.set(0);
        self.state.late_comers.set(0);
        self.state.collected.set(0);
        if let Some(live) = self.live() {
            live.slot.store(live.target.copy, Release);
        }
    }

    fn flush_and_drain(&mut self) {
        let before = self.entries();
        if let Some(live) = self.live() {
            // SAFETY: The function saved from this very timer: `fq_flush_timeout()`, which finds its
            // cookie by the timer's address. It expects to be called as a timer is, with bottom
            // halves off. `fq_domain` and the rings are there. It takes no lock over its flush, and
            // may run beside the timer: both free, under each ring's lock, what is flushed.
            unsafe {
                iommu_live_bh_disable();
                (live.target.timer_function)(live.cookie.timer());
                iommu_live_bh_enable();
            }
        }
        let drained = before.saturating_sub(self.entries());
        let state = self.state;
        state.drained.set(state.drained.get().wrapping_add(drained));
    }

    fn arm_empty_rings(&mut self) -> bool {
        let mut all = true;
        self.each_ring(|ring, live| all &= ring.arm_if_empty(live.target.mask));
        all
    }

    fn collect(&mut self) {
        let mut collected = 0;
        self.each_ring(|ring, live| {
            if ring.has_late_comer() && ring.collect(live.cookie) {
                collected += 1;
            }
        });
        if let Some(live) = self.live() {
            // Nothing is in the rings that it would have to come for; and its flush would be taken for
            // a late comer's.
            live.cookie.stop_stray_timer();
        }
        self.count(collected);
    }

    fn disarm_rings(&mut self) -> bool {
        let (mut all, mut collected) = (true, 0);
        self.each_ring(|ring, live| {
            all &= ring.disarm(live.target.mask, live.cookie, &mut collected);
        });
        self.count(collected);
        all
    }

    fn ring_locks_are_free(&self) -> bool {
        let mut free = true;
        self.each_ring(|ring, _| free &= ring.lock_is_free());
        free
    }

    fn rings_are_empty(&self) -> bool {
        let mut empty = true;
        self.each_ring(|ring, _| empty &= ring.is_empty());
        empty
    }

    fn stop_timer(&mut self) {
        if let Some(live) = self.live() {
            live.cookie.stop_timer();
            self.state.flushes_before.set(live.cookie.flushes());
        }
    }

    fn allow_timer(&mut self) {
        if let Some(live) = self.live() {
            // SAFETY: It was set up with this function when it was found.
            unsafe { live.cookie.allow_timer(live.target.timer_function) };
        }
    }

    fn shut_down_timer(&mut self) {
        if let Some(live) = self.live() {
            live.cookie.shut_down_timer();
        }
    }

    fn stop_queueing(&mut self) {
        if let Some(live) = self.live() {
            live.cookie.fq_domain().store(null_mut(), Relaxed);
        }
    }

    fn resume_queueing(&mut self) {
        if let Some(live) = self.live() {
            live.cookie.fq_domain().store(live.target.domain, Release);
        }
    }

    fn restore_entry(&mut self) {
        if let Some(live) = self.live() {
            live.slot.store(live.target.original, Release);
        }
    }

    fn free_rings(&mut self) {
        let Some(target) = self.state.target.get() else {
            return;
        };
        // Where the domain has gone, another one may be at its address, with rings of its own.
        let has_them = |live: &Live<'_>| live.cookie.rings() == Some(target.rings);
        if let Some(live) = self.live().filter(has_them) {
            // SAFETY: `fq_domain` has been NULL for a grace period, so nobody looks for them.
            unsafe { live.cookie.forget_rings() };
        }
        // SAFETY: Made by the kernel. Whoever had sampled *queued* before `fq_domain` was NULL has
        // left (I4), and they are empty; or the domain has gone, and everybody who unmaps with it.
        unsafe { target.rings.free() };
    }

    fn set_rings_aside(&mut self) {
        if let Some(target) = self.state.target.get() {
            self.state.aside.set(Some(target.rings));
        }
    }

    fn set_label(&mut self, label: Label) {
        let domain_type = match label {
            Label::Strict => bindings::IOMMU_DOMAIN_DMA,
            Label::Lazy => bindings::IOMMU_DOMAIN_DMA_FQ,
            Label::Other => return,
        };
        if let Some(live) = self.live() {
            live.domain.set_domain_type(domain_type);
        }
    }

    fn pause(&mut self) {
        // SAFETY: Everybody who holds a group's mutex may sleep.
        unsafe { iommu_live_cond_resched() };
    }

    fn trip(&mut self) {
        counters::TRIPPED.set(1);
        let what =
            c"an invariant is broken: the strict entry stays, and nothing is switched until \
                     the next boot";
        // SAFETY: A NUL-terminated string.
        unsafe { iommu_live_warn(what.as_char_ptr(), self.cleanup.id) };
        // The strict entry is text of this module: it must not leave any more.
        if let Some(module) = self.state.module.take() {
            forget(module);
        }
    }
}

/// Nanoseconds since boot, on the clock that goes on while the machine sleeps.
fn boot_time_ns() -> i64 {
    // SAFETY: May be called anywhere.
    unsafe { bindings::ktime_get_with_offset(bindings::tk_offsets_TK_OFFS_BOOT) }
}

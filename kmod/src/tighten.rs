// SPDX-License-Identifier: GPL-2.0-only

//! A live tighten of one group: the checks before it, and [`Machine`] on the running kernel.

use crate::{
    drivers,
    protocol::{self, Machine, Remnant},
    strict_ops::{Copy as TableCopy, StrictEntry},
    symbol,
    private_structs::{self, Cookie, Domain, LockedGroup, Rings, TimerFunction},
};
use core::{ffi::c_void, ptr::NonNull};
use kernel::bindings;
use kernel::prelude::*;
use kernel::sync::atomic::Relaxed;

pub(crate) use crate::strict_ops::Spare;

extern "C" {
    fn iommu_live_bh_disable();
    fn iommu_live_bh_enable();
    fn iommu_live_per_cpu_ptr(ptr: *mut c_void, cpu: i32) -> *mut c_void;
    fn iommu_live_next_possible_cpu(cpu: i32) -> i32;
    fn iommu_live_lock_keeps_sleepers(lock: *mut bindings::spinlock_t) -> bool;
}

/// What a tighten that was done did.
#[derive(Clone, Copy)]
pub(crate) struct Done {
    /// From the writer's request to the domain being strict, in nanoseconds.
    pub(crate) strict_ns: i64,
    /// Flush queue entries that the final flush covered.
    pub(crate) drained: u64,
}

/// Nanoseconds on the monotonic clock.
pub(crate) fn now_ns() -> i64 {
    // SAFETY: May be called anywhere.
    unsafe { bindings::ktime_get() }
}

/// Tightens the group's default domain, and tells `strict` when it is strict, which is not the end.
/// `None` if it is no domain that this module may switch: nothing was done then. `started` is when
/// the writer asked.
pub(crate) fn attempt(
    group: &LockedGroup<'_>,
    spare: Spare,
    started: i64,
    strict: impl FnOnce(Done),
) -> Option<Leftover> {
    let mut switch = Switch::prepare(group, spare, started, strict)?;
    protocol::tighten(&mut switch);
    // INVARIANT: The protocol has restored the original entry.
    Some(Leftover(Some(switch.entry.retire())))
}

/// What a tighten leaves behind. To drop it ends the tighten; this waits, and should not be done
/// with the group's mutex held.
///
/// # Invariants
///
/// No domain points to the copy. It is `None` only after the last step.
pub(crate) struct Leftover(Option<TableCopy>);

impl Drop for Leftover {
    fn drop(&mut self) {
        protocol::finish(self);
    }
}

impl Remnant for Leftover {
    fn wait_for_readers(&mut self) {
        wait_for_readers();
    }

    fn free_strict_entry(&mut self) {
        self.0 = None;
    }
}

/// One switch of one domain. All state of a switch is here, so that switches of different groups
/// run side by side and share their grace periods.
///
/// # Invariants
///
/// `domain` was lazy with its own flush queue, timer and rings when this was made, and the
/// group's mutex is held for `'a`. `strict` is `None` only after the domain was strict.
struct Switch<'a, F> {
    domain: Domain<'a>,
    cookie: Cookie<'a>,
    timer_function: TimerFunction,
    rings: Rings,
    entry: StrictEntry<'a>,
    started: i64,
    strict: Option<F>,
}

impl<'a, F> Switch<'a, F> {
    /// Checks that the switch is ours to make, under the mutex that also covers the switch. After
    /// this nothing can fail.
    fn prepare(group: &'a LockedGroup<'_>, spare: Spare, started: i64, strict: F) -> Option<Self> {
        let domain = group.default_domain()?;
        if domain.domain_type() != bindings::IOMMU_DOMAIN_DMA_FQ {
            return None;
        }
        let cookie = domain.dma_cookie()?;
        if !domain.is(cookie.fq_domain().load(Relaxed)) {
            return None;
        }
        let rings = cookie.rings()?;
        let timer_function = cookie.timer_function()?;
        if !symbol::is(timer_function as *const c_void, "fq_flush_timeout") {
            return None;
        }
        let entry = StrictEntry::prepare(&drivers::audit(domain)?, spare)?;
        // INVARIANT: As checked above, under the mutex that `group` holds for `'a`.
        Some(Self {
            domain,
            cookie,
            timer_function,
            rings,
            entry,
            started,
            strict: Some(strict),
        })
    }

    /// Calls `visit` with every ring of the domain.
    fn each_ring(&self, mut visit: impl FnMut(NonNull<c_void>)) {
        let mut visit = |ring: *mut c_void| {
            if let Some(ring) = NonNull::new(ring) {
                visit(ring);
            }
        };
        match self.rings {
            Rings::Single(ring) => visit(ring),
            Rings::PerCpu(rings) => {
                let mut cpu = -1;
                loop {
                    // SAFETY: -1 or a possible CPU.
                    cpu = unsafe { iommu_live_next_possible_cpu(cpu) };
                    if cpu < 0 {
                        return;
                    }
                    // SAFETY: `rings` is a per-CPU pointer, by the type invariant, and `cpu` is
                    // possible.
                    visit(unsafe { iommu_live_per_cpu_ptr(rings, cpu) });
                }
            }
        }
    }

    /// Entries in all rings. Only exact while nobody adds or removes any.
    fn entries(&self) -> u64 {
        let mut sum = 0u64;
        self.each_ring(|ring| {
            // SAFETY: A ring of the domain.
            sum = sum.wrapping_add(unsafe { private_structs::ring_entries(ring) }.into());
        });
        sum
    }
}

/// Waits for tasks that may be anywhere in an unmap, preempted ones too, and for sections that
/// run with preemption off.
pub(crate) fn wait_for_readers() {
    // SAFETY: Both may be called wherever sleeping is allowed, which all callers can.
    unsafe {
        bindings::synchronize_rcu_tasks();
        bindings::synchronize_rcu();
        if cfg!(CONFIG_PREEMPT_RT) {
            // Instrumentation of the unmap path (a program at a trace point) may sleep for a
            // lock, but only within an RCU section. It has left that by now; this waits for the
            // rest of its unmap.
            bindings::synchronize_rcu_tasks();
        }
    }
}

impl<F: FnOnce(Done)> Machine for Switch<'_, F> {
    fn publish_strict_entry(&mut self) {
        self.entry.publish();
    }

    fn wait_for_readers(&mut self) {
        wait_for_readers();
    }

    fn wait_for_ring_locks(&mut self) {
        self.each_ring(|ring| {
            // SAFETY: A ring of the domain, whose lock was initialised with it; who switches may
            // sleep.
            unsafe {
                while iommu_live_lock_keeps_sleepers(private_structs::ring_lock(ring)) {
                    bindings::msleep(1);
                }
            }
        });
    }

    fn shut_down_timer(&mut self) {
        // SAFETY: The domain's own flush timer, set up by `iommu_dma_init_fq()`; this context may
        // sleep and holds no lock the timer takes.
        unsafe { bindings::timer_shutdown_sync(self.cookie.timer()) };
    }

    fn flush_and_drain(&mut self) -> u64 {
        let drained = self.entries();
        // SAFETY: The function saved from this very timer: `fq_flush_timeout()`, which finds its
        // cookie by the timer's address. It expects to be called as a timer is, with bottom
        // halves off. `fq_domain` and the rings are still there.
        unsafe {
            iommu_live_bh_disable();
            (self.timer_function)(self.cookie.timer());
            iommu_live_bh_enable();
        }
        let left = self.entries();
        if left != 0 {
            pr_err!("{} flush queue entries left after the last flush\n", left);
        }
        drained
    }

    fn strict_from_here(&mut self, drained: u64) {
        let strict_ns = now_ns().wrapping_sub(self.started);
        if let Some(strict) = self.strict.take() {
            strict(Done { strict_ns, drained });
        }
    }

    fn stop_queueing(&mut self) {
        self.cookie
            .fq_domain()
            .store(core::ptr::null_mut(), Relaxed);
    }

    fn restore_entry(&mut self) {
        self.entry.restore();
    }

    fn free_rings(&mut self) {
        // SAFETY: Whoever had sampled *queued* and was past the unmap entry before the strict one
        // was published has left the rings (I1); whoever sampled it later has been through the
        // strict entry, and `fq_domain` is NULL now (I4). So nobody can reach the rings; they were
        // allocated by `iommu_dma_init_fq()` with `__alloc_percpu()` or `vmalloc()`, by the type
        // invariant.
        unsafe {
            self.cookie.forget_rings();
            match self.rings {
                Rings::PerCpu(rings) => bindings::free_percpu(rings),
                Rings::Single(ring) => bindings::kvfree(ring),
            }
        }
    }

    fn label_strict(&mut self) {
        self.domain.set_domain_type(bindings::IOMMU_DOMAIN_DMA);
    }
}

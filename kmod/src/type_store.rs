// SPDX-License-Identifier: GPL-2.0-only

//! One write of a group's `type`: what is asked for, who answers, and what is reported.

use crate::{
    relax_checks,
    report::{self, Event, Outcome},
    tighten::{self, Spare},
    writer_lock::Turn,
    private_structs::{Group, LockedGroup},
    worker,
};
use core::{
    ffi::{c_void, CStr},
    ptr::NonNull,
};
use kernel::prelude::*;
use kernel::{bindings, ffi::c_char};

/// `iommu_group_attribute::store`.
pub(crate) type Store = unsafe extern "C" fn(*mut c_void, *const c_char, usize) -> isize;

/// What the writer asks for. The kernel knows two more words and rejects all others.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Request {
    Strict,
    Lazy,
    Other(&'static str),
}

impl Request {
    /// # Safety
    ///
    /// `buf` is a NUL-terminated string.
    unsafe fn parse(buf: *const c_char) -> Self {
        // As the kernel's own store compares.
        let is = |word: &CStr| {
            // SAFETY: Both are NUL-terminated strings.
            unsafe { bindings::sysfs_streq(buf, word.as_char_ptr()) }
        };
        if is(c"DMA") {
            Request::Strict
        } else if is(c"DMA-FQ") {
            Request::Lazy
        } else if is(c"identity") {
            Request::Other("identity")
        } else if is(c"auto") {
            Request::Other("auto")
        } else {
            Request::Other("invalid")
        }
    }

    fn word(self) -> &'static str {
        match self {
            Request::Strict => "DMA",
            Request::Lazy => "DMA-FQ",
            Request::Other(word) => word,
        }
    }
}

/// A write in progress.
///
/// # Invariants
///
/// `group` stays as long as this; `buf` is a NUL-terminated string; `original` is the kernel's
/// own store.
pub(crate) struct Write<'a> {
    group: Group<'a>,
    buf: *const c_char,
    count: usize,
    original: Store,
    request: Request,
}

impl<'a> Write<'a> {
    /// # Safety
    ///
    /// `group` is a `struct iommu_group` that stays for `'a`, `buf` a NUL-terminated string that
    /// stays for `'a`, and `original` may be called with both. `writer_lock::init` was called.
    pub(crate) unsafe fn new(
        group: NonNull<c_void>,
        buf: *const c_char,
        count: usize,
        original: Store,
    ) -> Self {
        // SAFETY: By this function's requirements.
        let (view, request) = unsafe { (Group::from_raw(group), Request::parse(buf)) };
        // INVARIANT: By this function's requirements.
        Self {
            group: view,
            buf,
            count,
            original,
            request,
        }
    }

    /// Does what is asked and returns what `store` is to return.
    pub(crate) fn run(self) -> isize {
        if !privileged() {
            // As the kernel's own store, before anything is looked at: who may not switch shall
            // not be able to take locks or to flood the audit trail.
            report::denied(self.group, self.request.word());
            return EACCES.to_errno() as isize;
        }
        let started = tighten::now_ns();
        // SAFETY: `writer_lock::init` was called, as `new` requires.
        let turn = match unsafe { Turn::take(self.group.id()) } {
            Ok(turn) => turn,
            Err(error) => return error.to_errno() as isize,
        };
        let old_type = type_name(&self.group.lock());
        let outcome = match self.request {
            _ if !turn.may_switch() => None,
            Request::Strict => self.tighten(&turn, started),
            Request::Lazy => self.relax(),
            Request::Other(_) => None,
        };
        let outcome = outcome.unwrap_or_else(|| self.pass_on());
        let new_type = match outcome {
            // Whoever looks waits for the mutex, which the worker keeps until it reads so.
            Outcome::Tightened(_) => "DMA",
            _ => type_name(&self.group.lock()),
        };
        let requested = self.request.word();
        Event {
            group: self.group,
            requested,
            old_type,
            new_type,
            outcome,
        }
        .publish();
        drop(turn);
        match outcome {
            Outcome::Refused(error) | Outcome::Failed(error) => error.to_errno() as isize,
            _ => self.count as isize,
        }
    }

    /// `None` if the kernel's own store is to answer.
    fn tighten(&self, turn: &Turn, started: i64) -> Option<Outcome> {
        // Before the mutex: reclaim may wait for a device whose recovery needs that mutex.
        let spare = match Spare::allocate() {
            Ok(spare) => spare,
            Err(error) => return Some(Outcome::Failed(error)),
        };
        // A worker is not sent in vain, and not where the last device has gone.
        if self.group.lock().default_domain()?.is_strict() {
            return Some(Outcome::Unchanged);
        }
        match worker::tighten(self.group, turn, spare, started) {
            Ok(done) => done.map(Outcome::Tightened),
            Err(error) => Some(Outcome::Failed(error)),
        }
    }

    /// `None` if the kernel's own store is to answer.
    fn relax(&self) -> Option<Outcome> {
        let locked = self.group.lock();
        match type_name(&locked) {
            // Only this one is live in the kernel, and only there it checks too little.
            "DMA" => {}
            "DMA-FQ" => return Some(Outcome::Unchanged),
            _ => return None,
        }
        if let Err(refusal) = relax_checks::check(&locked) {
            pr_notice!(
                "group {} stays strict: {}\n",
                self.group.id(),
                refusal.reason()
            );
            return Some(Outcome::Refused(refusal.error()));
        }
        drop(locked);
        let spare = match Spare::allocate() {
            Ok(spare) => spare,
            Err(error) => return Some(Outcome::Failed(error)),
        };
        match self.pass_on() {
            Outcome::PassedOn => Some(self.recheck(spare)),
            other => Some(other),
        }
    }

    /// The kernel's own relax takes the mutex itself, so an untrusted device may have joined the
    /// group between our check and the relax. If so, the group becomes strict again.
    fn recheck(&self, spare: Spare) -> Outcome {
        let locked = self.group.lock();
        let Err(refusal) = relax_checks::check(&locked) else {
            return Outcome::Relaxed;
        };
        // Not by a worker, for whom memory would be needed: nothing may fail here.
        let leftover = tighten::attempt(&locked, spare, tighten::now_ns(), |_| ());
        drop(locked);
        match leftover {
            Some(_) => {
                pr_notice!(
                    "group {} is strict again: {}\n",
                    self.group.id(),
                    refusal.reason()
                );
                Outcome::Refused(refusal.error())
            }
            // Its IOMMU driver is not one whose domains we can tighten.
            None => {
                pr_err!(
                    "group {} stays lazy although {}\n",
                    self.group.id(),
                    refusal.reason()
                );
                Outcome::Failed(refusal.error())
            }
        }
    }

    /// Lets the kernel's own store answer.
    fn pass_on(&self) -> Outcome {
        report::passed_on();
        // That store would find NULL behind the mutex if the last device goes while it waits; the
        // sooner before it this is seen, the better.
        if self.group.lock().default_domain().is_none() {
            return Outcome::Failed(EINVAL);
        }
        match i32::try_from(self.original()) {
            Ok(errno) if errno < 0 => Outcome::Failed(Error::from_errno(errno)),
            _ => Outcome::PassedOn,
        }
    }

    fn original(&self) -> isize {
        // SAFETY: By the type invariants.
        unsafe { (self.original)(self.group.as_ptr(), self.buf, self.count) }
    }
}

fn privileged() -> bool {
    // SAFETY: They look at the current task's credentials.
    unsafe {
        bindings::capable(bindings::CAP_SYS_ADMIN as i32)
            && bindings::capable(bindings::CAP_SYS_RAWIO as i32)
    }
}

/// What `type` reads; see `iommu_group_show_type()`.
fn type_name(group: &LockedGroup<'_>) -> &'static str {
    match group.default_domain().map(|domain| domain.domain_type()) {
        Some(bindings::IOMMU_DOMAIN_BLOCKED) => "blocked",
        Some(bindings::IOMMU_DOMAIN_IDENTITY) => "identity",
        Some(bindings::IOMMU_DOMAIN_UNMANAGED) => "unmanaged",
        Some(bindings::IOMMU_DOMAIN_DMA) => "DMA",
        Some(bindings::IOMMU_DOMAIN_DMA_FQ) => "DMA-FQ",
        _ => "unknown",
    }
}

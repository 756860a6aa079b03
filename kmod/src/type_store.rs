// SPDX-License-Identifier: GPL-2.0-only

//! One write of a group's `type`: what is asked for, who answers, and what is reported.

use crate::{
    audit,
    cleanup::{self, Relaxation, Reserved, Tightened},
    counters,
    private_structs::{now_ns, Group, LockedGroup},
    relax_checks,
    report::{self, Event, Outcome},
    writer_lock::WriterLock,
};
use core::{ffi::CStr, ptr::NonNull};
use kernel::prelude::*;
use kernel::{bindings, ffi::c_char};

/// `iommu_group_attribute::store`.
pub(crate) type Store =
    unsafe extern "C" fn(*mut bindings::iommu_group, *const c_char, usize) -> isize;

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
        group: NonNull<bindings::iommu_group>,
        buf: *const c_char,
        count: usize,
        original: Store,
    ) -> Self {
        // SAFETY: By this function's requirements.
        let (group, request) = unsafe { (Group::from_raw(group), Request::parse(buf)) };
        // INVARIANT: By this function's requirements.
        Self {
            group,
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
        match self.write() {
            Ok(()) => self.count as isize,
            Err(error) => error.to_errno() as isize,
        }
    }

    fn write(&self) -> Result {
        let started = now_ns();
        // SAFETY: `writer_lock::init` was called, as `new` requires.
        let _lock = unsafe { WriterLock::take(self.group.id()) }?;
        let written = match (self.request, audit::may_switch()) {
            (Request::Strict, Ok(())) => self.tighten(started),
            (Request::Lazy, Ok(())) => self.relax(),
            (Request::Strict | Request::Lazy, Err(reason)) => {
                pr_notice!("group {} stays as it is: {}\n", self.group.id(), reason);
                self.unchanged(Outcome::Refused(audit::refused()))
            }
            (Request::Other(_), _) => self.pass_on(),
        }?;
        Event {
            group: self.group,
            requested: self.request.word(),
            old_type: written.old_type,
            new_type: written.new_type,
            outcome: written.outcome,
        }
        .publish();
        match written.outcome {
            Outcome::Refused(error) | Outcome::Failed(error) => Err(error),
            _ => Ok(()),
        }
    }

    fn tighten(&self, started: i64) -> Result<Written> {
        let mut reserved = match Reserved::new(self.group) {
            Ok(reserved) => reserved,
            // The module is about to leave.
            Err(error) if error == ENODEV => return self.pass_on(),
            Err(error) => return self.unchanged(Outcome::Failed(error)),
        };
        let locked = self.group.lock_killable()?;
        let old_type = type_name(&locked);
        let tightened = cleanup::tighten(&locked, &mut reserved, started);
        let new_type = type_name(&locked);
        drop(locked);
        let outcome = match tightened {
            Tightened::Done(done) => Outcome::Tightened(done),
            Tightened::Already => Outcome::Unchanged,
            Tightened::NotOurs => return self.pass_on(),
            Tightened::Tripped => Outcome::Failed(EIO),
        };
        Ok(Written {
            old_type,
            new_type,
            outcome,
        })
    }

    fn relax(&self) -> Result<Written> {
        // For the case that the kernel's own relax has to be taken back.
        let reserved = match Reserved::new(self.group) {
            Ok(reserved) => reserved,
            Err(error) if error == ENODEV => return self.pass_on(),
            Err(error) => return self.unchanged(Outcome::Failed(error)),
        };
        let locked = self.group.lock_killable()?;
        let old_type = type_name(&locked);
        let relaxed = cleanup::relax(&locked, || relax_checks::check(&locked));
        let new_type = type_name(&locked);
        let written = |outcome| {
            Ok(Written {
                old_type,
                new_type,
                outcome,
            })
        };
        match relaxed {
            Ok(Relaxation::Done) => return written(Outcome::Relaxed),
            Ok(Relaxation::Tripped) => return written(Outcome::Failed(EIO)),
            Ok(Relaxation::NotOurs) => {}
            Err(refusal) => return written(self.refuse(refusal)),
        }
        match old_type {
            // Only this one is live in the kernel, and only there it checks too little.
            "DMA" => {}
            "DMA-FQ" => return written(Outcome::Unchanged),
            _ => {
                drop(locked);
                return self.pass_on();
            }
        }
        if let Err(refusal) = relax_checks::check(&locked) {
            return written(self.refuse(refusal));
        }
        drop(locked);
        let passed_on = self.pass_on()?;
        match passed_on.outcome {
            Outcome::PassedOn => self.recheck(reserved, old_type),
            _ => Ok(passed_on),
        }
    }

    fn refuse(&self, refusal: relax_checks::Refusal) -> Outcome {
        pr_notice!(
            "group {} stays strict: {}\n",
            self.group.id(),
            refusal.reason()
        );
        Outcome::Refused(refusal.error())
    }

    /// The kernel's own relax takes the mutex itself, so an untrusted device may have joined the
    /// group between our check and the relax. If so, the group becomes strict again.
    fn recheck(&self, mut reserved: Reserved, old_type: &'static str) -> Result<Written> {
        // Not the killable one: the check must be made.
        let locked = self.group.lock();
        let outcome = match relax_checks::check(&locked) {
            Ok(()) => Outcome::Relaxed,
            Err(refusal) => {
                match cleanup::tighten(&locked, &mut reserved, now_ns()) {
                    Tightened::Done(_) | Tightened::Already => {
                        pr_notice!(
                            "group {} is strict again: {}\n",
                            self.group.id(),
                            refusal.reason()
                        );
                        Outcome::Refused(refusal.error())
                    }
                    // Its IOMMU driver is not one whose domains we can tighten.
                    Tightened::NotOurs | Tightened::Tripped => {
                        pr_err!(
                            "group {} stays lazy although {}\n",
                            self.group.id(),
                            refusal.reason()
                        );
                        Outcome::Failed(refusal.error())
                    }
                }
            }
        };
        Ok(Written {
            old_type,
            new_type: type_name(&locked),
            outcome,
        })
    }

    /// Lets the kernel's own store answer.
    fn pass_on(&self) -> Result<Written> {
        counters::PASSED_ON.add(1);
        let locked = self.group.lock_killable()?;
        let old_type = type_name(&locked);
        // That store would find NULL behind the mutex if the last device goes while it waits; the
        // sooner before it this is seen, the better.
        if locked.default_domain().is_none() {
            return Ok(Written {
                old_type,
                new_type: old_type,
                outcome: Outcome::Failed(EINVAL),
            });
        }
        // It may free the domain.
        cleanup::collect(&locked);
        drop(locked);
        let outcome = match i32::try_from(self.original()) {
            Ok(errno) if errno < 0 => Outcome::Failed(Error::from_errno(errno)),
            _ => Outcome::PassedOn,
        };
        Ok(Written {
            old_type,
            new_type: type_name(&self.group.lock()),
            outcome,
        })
    }

    /// A write that ended before anything was done.
    fn unchanged(&self, outcome: Outcome) -> Result<Written> {
        let old_type = type_name(&self.group.lock_killable()?);
        Ok(Written {
            old_type,
            new_type: old_type,
            outcome,
        })
    }

    fn original(&self) -> isize {
        // SAFETY: By the type invariants.
        unsafe { (self.original)(self.group.as_ptr().as_ptr(), self.buf, self.count) }
    }
}

/// What came of a write.
struct Written {
    old_type: &'static str,
    new_type: &'static str,
    outcome: Outcome,
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

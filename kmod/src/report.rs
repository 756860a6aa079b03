// SPDX-License-Identifier: GPL-2.0-only

//! A uevent for each write of `type`.

use crate::{
    counters::{DENIED, DRAINED, FAILED, LAST_STRICT_NS, REFUSED, RELAXED, TIGHTENED},
    ffi::{
        iommu_live_current_comm, iommu_live_current_login_uid, iommu_live_current_started_ns,
        iommu_live_current_tgid, iommu_live_current_uid, iommu_live_may_report_denied,
    },
    private_structs::Group,
};
use core::fmt::{self, Write};
use kernel::prelude::*;
use kernel::sync::atomic::{Atomic, Relaxed};
use kernel::{bindings, ffi::c_char};

/// Length of a task's name, with the NUL behind it.
const COMM_LENGTH: usize = bindings::TASK_COMM_LEN as usize;

/// Counts a write by somebody who may not, and tells user space, but not of every one in a flood of
/// them. Nothing is looked at for it that needs a lock, so the types are not told.
pub(crate) fn denied(group: Group<'_>, requested: &str) {
    DENIED.add(1);
    // SAFETY: It looks at a static of its own.
    if !unsafe { iommu_live_may_report_denied() } {
        return;
    }
    let mut environment = Environment::of(group, requested);
    environment.push(format_args!("OUTCOME=denied"));
    environment.push(format_args!("ERRNO={}", EACCES.to_errno().wrapping_neg()));
    environment.push_writer();
    environment.send(group.kobject());
}

/// What a tighten did.
#[derive(Clone, Copy)]
pub(crate) struct Done {
    /// From the writer's request to the domain being strict, in nanoseconds.
    pub(crate) strict_ns: i64,
    /// Flush queue entries that its flushes covered.
    pub(crate) drained: u64,
}

/// How a write of `type` ended.
#[derive(Clone, Copy)]
pub(crate) enum Outcome {
    /// It read so already.
    Unchanged,
    /// Tightened live by this module.
    Tightened(Done),
    /// Relaxed live, after our checks.
    Relaxed,
    /// Something else that the kernel's own code did.
    PassedOn,
    /// This module refused.
    Refused(Error),
    /// It failed, here or in the kernel's own code. What the group is now, `new_type` says.
    Failed(Error),
}

/// One write of `type`, for the uevent. Published before the next write of the same group begins.
pub(crate) struct Event<'a> {
    /// The group written to.
    pub(crate) group: Group<'a>,
    /// What was asked for.
    pub(crate) requested: &'static str,
    /// What `type` read before.
    pub(crate) old_type: &'static str,
    /// What it reads now.
    pub(crate) new_type: &'static str,
    /// How it ended.
    pub(crate) outcome: Outcome,
}

/// Environment of a uevent: `KEY=value` strings in one buffer. What does not fit is left out
/// whole; the longest event has some 350 bytes.
struct Environment {
    text: [u8; 512],
    used: usize,
    starts: [usize; 16],
    count: usize,
}

impl Environment {
    fn new() -> Self {
        Self {
            text: [0; 512],
            used: 0,
            starts: [0; 16],
            count: 0,
        }
    }

    /// What every event begins with.
    fn of(group: Group<'_>, requested: &str) -> Self {
        let mut environment = Self::new();
        environment.push(format_args!("IOMMU_LIVE=1"));
        environment.push(format_args!("GROUP={}", group.id()));
        environment.push(format_args!("REQUESTED={requested}"));
        environment
    }

    /// Who writes.
    fn push_writer(&mut self) {
        let mut comm = [0; COMM_LENGTH];
        // SAFETY: They read the current task's credentials, ids and name; `comm` has room for a
        // name.
        let (uid, login_uid, pid, started_ns) = unsafe {
            iommu_live_current_comm(comm.as_mut_ptr());
            (
                iommu_live_current_uid(),
                iommu_live_current_login_uid(),
                iommu_live_current_tgid(),
                iommu_live_current_started_ns(),
            )
        };
        self.push(format_args!("WRITER_PID={pid}"));
        self.push(format_args!("WRITER_STARTED_NS={started_ns}"));
        self.push(format_args!("WRITER_UID={uid}"));
        self.push(format_args!("WRITER_LOGIN_UID={login_uid}"));
        self.push(format_args!("WRITER_COMM={}", Comm(&comm)));
    }

    /// Adds a line, if there is room.
    fn push(&mut self, line: fmt::Arguments<'_>) {
        let start = self.used;
        let fits = self.write_fmt(line).is_ok() && self.write_str("\0").is_ok();
        match self.starts.get_mut(self.count) {
            Some(slot) if fits => {
                *slot = start;
                self.count += 1;
            }
            _ => self.used = start,
        }
    }

    fn send(&mut self, kobject: *mut bindings::kobject) {
        let mut pointers: [*mut c_char; 17] = [core::ptr::null_mut(); 17];
        let base: *mut c_char = self.text.as_mut_ptr().cast();
        for (pointer, start) in pointers.iter_mut().zip(self.starts.iter().take(self.count)) {
            *pointer = base.wrapping_add(*start);
        }
        // SAFETY: `kobject` is a group's, which stays for the write in progress, with its name and
        // parent; the pointers are NUL-terminated strings, with a NULL behind the last. They are
        // copied.
        let error = unsafe {
            bindings::kobject_uevent_env(
                kobject,
                bindings::kobject_action_KOBJ_CHANGE,
                pointers.as_mut_ptr(),
            )
        };
        if error != 0 {
            pr_warn!("could not send a uevent: errno {}\n", -error);
        }
    }
}

impl Write for Environment {
    fn write_str(&mut self, s: &str) -> fmt::Result {
        let end = self.used.checked_add(s.len()).ok_or(fmt::Error)?;
        self.text
            .get_mut(self.used..end)
            .ok_or(fmt::Error)?
            .copy_from_slice(s.as_bytes());
        self.used = end;
        Ok(())
    }
}

/// A task's name, which it can set to anything: what is not plain text is shown as `?`.
struct Comm<'a>(&'a [u8]);

impl fmt::Display for Comm<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for &byte in self.0.iter().take_while(|byte| **byte != 0) {
            let plain = byte.is_ascii_graphic() || byte == b' ';
            f.write_char(if plain { char::from(byte) } else { '?' })?;
        }
        Ok(())
    }
}

/// Number of the write among all since the module was loaded, from 1.
static SEQUENCE: Atomic<u64> = Atomic::new(0);

impl Event<'_> {
    /// Counts the write and tells user space, on the group's kobject.
    pub(crate) fn publish(&self) {
        let (word, error, done) = match self.outcome {
            Outcome::Unchanged => ("unchanged", None, None),
            Outcome::Tightened(done) => {
                TIGHTENED.add(1);
                DRAINED.add(done.drained);
                LAST_STRICT_NS.set(done.strict_ns.unsigned_abs());
                ("done", None, Some(done))
            }
            Outcome::Relaxed => {
                RELAXED.add(1);
                ("done", None, None)
            }
            Outcome::PassedOn => ("done", None, None),
            Outcome::Refused(error) => {
                REFUSED.add(1);
                ("refused", Some(error), None)
            }
            Outcome::Failed(error) => {
                FAILED.add(1);
                ("failed", Some(error), None)
            }
        };
        let errno = error.map_or(0, |error| error.to_errno().wrapping_neg());
        let sequence = SEQUENCE.fetch_add(1, Relaxed).wrapping_add(1);
        let mut environment = Environment::of(self.group, self.requested);
        environment.push(format_args!("OLD_TYPE={}", self.old_type));
        environment.push(format_args!("NEW_TYPE={}", self.new_type));
        environment.push(format_args!("OUTCOME={word}"));
        environment.push(format_args!("ERRNO={errno}"));
        if let Some(done) = done {
            environment.push(format_args!("STRICT_NS={}", done.strict_ns));
            environment.push(format_args!("DRAINED={}", done.drained));
        }
        environment.push(format_args!("SWITCH_SEQ={sequence}"));
        environment.push_writer();
        environment.send(self.group.kobject());
    }
}

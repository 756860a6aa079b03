// SPDX-License-Identifier: GPL-2.0-only

//! All clean-ups there are.
//!
//! Its lock is taken with a group's mutex held. So memory is allocated without it: to reclaim some
//! may mean to wait for a device whose recovery needs that mutex.

use crate::cleanup::Cleanup;
use core::{mem::swap, ptr::eq};
use kernel::prelude::*;
use kernel::sync::{global_lock, Arc};

global_lock! {
    // SAFETY: `init` is called before anything else here.
    unsafe(uninit) static CLEANUPS: Mutex<KVec<Arc<Cleanup>>> = KVec::new();
}

/// Makes the registry.
///
/// # Safety
///
/// Called once, before anything else here.
pub(crate) unsafe fn init() {
    // SAFETY: By this function's requirements.
    unsafe { CLEANUPS.init() };
}

/// Frees its memory. Nothing is in it any more.
pub(crate) fn empty() {
    let mut nothing = KVec::new();
    swap(&mut *CLEANUPS.lock(), &mut nothing);
}

/// Adds a clean-up. Fails with `ENOMEM`.
pub(crate) fn add(cleanup: &Arc<Cleanup>) -> Result {
    loop {
        let mut list = CLEANUPS.lock();
        if list.push_within_capacity(cleanup.clone()).is_ok() {
            return Ok(());
        }
        let room = list.len().saturating_mul(2).saturating_add(8);
        drop(list);
        let mut larger = KVec::with_capacity(room, GFP_KERNEL)?;
        let mut list = CLEANUPS.lock();
        // Somebody else may have been faster.
        if larger.capacity() > list.capacity() {
            swap(&mut *list, &mut larger);
            for moved in larger.drain_all() {
                // It has more room than the other one had.
                let _ = list.push_within_capacity(moved);
            }
        }
        drop(list);
    }
}

/// Removes a clean-up, if it is there.
pub(crate) fn remove(cleanup: &Arc<Cleanup>) {
    let mut list = CLEANUPS.lock();
    let index = list
        .iter()
        .position(|other| eq::<Cleanup>(&**other, &**cleanup));
    if let Some(removed) = index.and_then(|index| list.remove(index).ok()) {
        drop(list);
        drop(removed);
    }
}

/// The first clean-up for which `test` holds. It must not take the registry's lock.
pub(crate) fn find(test: impl Fn(&Cleanup) -> bool) -> Option<Arc<Cleanup>> {
    CLEANUPS.lock().iter().find(|one| test(one)).cloned()
}

/// The clean-up at a place, active or not. Places move down when one before them is removed.
pub(crate) fn at(index: usize) -> Option<Arc<Cleanup>> {
    CLEANUPS.lock().get(index).cloned()
}

// SPDX-License-Identifier: GPL-2.0-only
//! Open file description locks (`F_OFD_SETLK`, fcntl(2)): every copy of the handle shares the lock, and the kernel releases it
//! when the last copy is closed, however the process ends.

use std::fs::File;

use nix::errno::Errno;
use nix::fcntl::{fcntl, FcntlArg};
use nix::libc;

/// Locks all of `file` exclusively, until the last copy of its handle is closed. Returns whether the lock was free.
pub fn try_lock(file: &File) -> nix::Result<bool> {
    try_lock_part(file, &whole())
}

/// Locks `file` together with others (a shared lock). Returns whether nobody had locked it exclusively.
pub fn try_lock_shared(file: &File) -> nix::Result<bool> {
    let shared = libc::flock {
        l_type: libc::F_RDLCK as libc::c_short,
        ..whole()
    };
    try_lock_part(file, &shared)
}

/// Unlocks `file` for every copy of the handle.
pub fn unlock(file: &File) -> nix::Result<()> {
    let nobody = libc::flock {
        l_type: libc::F_UNLCK as libc::c_short,
        ..whole()
    };
    fcntl(file, FcntlArg::F_OFD_SETLK(&nobody)).map(|_| ())
}

/// Locks `file` exclusively so that others can tell the process ([`locked_by`]): the length of the locked range is its process
/// id plus one. Unlike a process id that is written into the file, this cannot be left behind by a process that was killed.
pub fn try_lock_signed(file: &File) -> nix::Result<bool> {
    let signed = libc::flock {
        l_len: libc::off_t::from(std::process::id()) + 1,
        ..whole()
    };
    try_lock_part(file, &signed)
}

fn try_lock_part(file: &File, part: &libc::flock) -> nix::Result<bool> {
    match fcntl(file, FcntlArg::F_OFD_SETLK(part)) {
        Ok(_) => Ok(true),
        Err(Errno::EAGAIN | Errno::EACCES) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Whether somebody else has locked `file`. Takes no lock.
pub fn is_locked(file: &File) -> nix::Result<bool> {
    other_lock(file).map(|found| found.is_some())
}

/// The process that has locked `file` with [`try_lock_signed`]. Takes no lock.
pub fn locked_by(file: &File) -> nix::Result<Option<u32>> {
    let found = other_lock(file)?;
    Ok(found.and_then(|lock| u32::try_from(lock.l_len - 1).ok()))
}

/// The lock that somebody else has on `file`, or on a part of it.
fn other_lock(file: &File) -> nix::Result<Option<libc::flock>> {
    let mut found = whole();
    fcntl(file, FcntlArg::F_OFD_GETLK(&mut found))?;
    Ok((found.l_type != libc::F_UNLCK as libc::c_short).then_some(found))
}

/// An exclusive lock on all of a file.
fn whole() -> libc::flock {
    libc::flock {
        // The casts cannot truncate: the constants are small.
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::run_dir;

    #[test]
    fn a_signed_lock_says_which_process_has_it() {
        let (_root, run) = run_dir();
        let (first, second) = (run.open("x").unwrap(), run.open("x").unwrap());
        assert_eq!(locked_by(&second), Ok(None));
        assert_eq!(try_lock_signed(&first), Ok(true));
        assert_eq!(try_lock_signed(&second), Ok(false));
        assert_eq!(locked_by(&second), Ok(Some(std::process::id())));
        drop(first);
        assert_eq!(try_lock_signed(&second), Ok(true));
        drop(second);
        // A lock without an end says nothing.
        let (first, second) = (run.open("x").unwrap(), run.open("x").unwrap());
        assert_eq!(try_lock(&first), Ok(true));
        assert_eq!(locked_by(&second), Ok(None));
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! What is done the same way in every open directory, whatever it is and whoever may write there.

use std::fs::File;
use std::io::{self, Write};
use std::os::fd::OwnedFd;

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{openat, renameat, OFlag};
use nix::sys::stat::{fchmod, Mode};
use nix::unistd::fsync;

/// The names in the directory behind `handle`, sorted. One that is not text cannot be asked for, and is left out.
///
/// # Errors
///
/// Those of openat(2) and getdents(2).
pub fn names(handle: &OwnedFd) -> nix::Result<Vec<String>> {
    let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
    let mut directory = Dir::openat(handle, ".", flags, Mode::empty())?;
    let mut names = Vec::new();
    for entry in directory.iter() {
        if let Ok(name) = entry?.file_name().to_str() {
            if name != "." && name != ".." {
                names.push(name.to_owned());
            }
        }
    }
    names.sort();
    Ok(names)
}

/// Puts a file with `bytes` in the place of `name`: whole, and on the disk, or not at all.
///
/// # Errors
///
/// Those of openat(2), write(2), fsync(2) and renameat(2).
pub fn replace(handle: &OwnedFd, name: &str, bytes: &[u8], mode: Mode) -> nix::Result<()> {
    let new = format!(".{name}.new");
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let careful = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(handle, new.as_str(), flags | careful, mode)?);
    // Whatever the umask is.
    fchmod(&file, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| errno(&error))?;
    renameat(handle, new.as_str(), handle, name)?;
    fsync(handle)
}

/// The errno of an error of the standard library; 0 if it has none.
#[must_use]
pub fn errno(error: &io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}

// SPDX-License-Identifier: GPL-2.0-only
//! Lists directories and replaces files atomically, relative to an open directory handle.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

use nix::dir::Dir;
use nix::fcntl::{openat, renameat, OFlag};
use nix::sys::stat::{fchmod, Mode};
use nix::unistd::fsync;

use crate::sys::error::errno;

/// The names in the directory behind `handle`, sorted. Names that are not UTF-8 are left out, since no caller can ask for them.
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

/// Replaces `name` with a file of `bytes`, atomically and synced to disk.
pub fn replace(handle: &OwnedFd, name: &str, bytes: &[u8], mode: Mode) -> nix::Result<()> {
    let new = format!(".{name}.new");
    let flags = OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_TRUNC;
    let careful = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(handle, new.as_str(), flags | careful, mode)?);
    // Set the mode explicitly: openat(2) applies the umask.
    fchmod(&file, mode)?;
    let written = file.write_all(bytes).and_then(|()| file.sync_all());
    written.map_err(|error| errno(&error))?;
    renameat(handle, new.as_str(), handle, name)?;
    fsync(handle)
}

/// Replaces the file at `path` with `bytes`, atomically and synced to disk. Others may be able to write to its directory, so an
/// existing file is never opened for writing, and anything but a regular file is left alone.
pub fn write_whole(path: &Path, bytes: &[u8], mode: u32) -> Result<(), String> {
    let failed =
        |verb: &str, error: &io::Error| format!("Failed to {verb} {}: {error}", path.display());
    match path.symlink_metadata() {
        Ok(there) if !there.is_file() => {
            return Err(format!("{} is not a plain file", path.display()))
        }
        _ => {}
    }
    let Some(name) = path.file_name() else {
        return Err(format!("{} is not the path of a file", path.display()));
    };
    let new = format!(".{}.{}.new", name.to_string_lossy(), std::process::id());
    let new = path.with_file_name(new);
    let mut options = OpenOptions::new();
    let mut file = options
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&new)
        .map_err(|error| failed("write", &error))?;
    let written = file
        .write_all(bytes)
        .and_then(|()| file.sync_all())
        .and_then(|()| std::fs::rename(&new, path));
    written.map_err(|error| {
        // Ignore a failure to remove the temporary file: the original file is unchanged.
        let _ = std::fs::remove_file(&new);
        failed("write", &error)
    })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_file_is_written_whole_or_not_at_all() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("report.html");
        write_whole(&path, b"old", 0o600).unwrap();
        write_whole(&path, b"new", 0o600).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"new");
        let link = folder.path().join("link");
        symlink(&path, &link).unwrap();
        let error = write_whole(&link, b"x", 0o600).unwrap_err();
        assert!(error.contains("not a plain file"), "{error}");
        let error = write_whole(&folder.path().join("no/where"), b"x", 0o600).unwrap_err();
        assert!(error.contains("No such file"), "{error}");
        let names: Vec<_> = fs::read_dir(folder.path()).unwrap().collect();
        assert_eq!(names.len(), 2, "something was left: {names:?}");
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! A trusted directory, and the files in it.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{openat, readlinkat, OFlag};
use nix::sys::stat::{fstat, FileStat, Mode, SFlag};
use nix::unistd::{unlinkat, UnlinkatFlags};

use super::{check, os, TrustError, FILE_LIMIT};
use crate::sys::atomic_file;
use crate::sys::error::errno;

/// An open directory that nobody else can write.
#[derive(Debug)]
pub struct TrustedDir {
    path: PathBuf,
    handle: OwnedFd,
    owner: u32,
}

/// The content behind a name in a directory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// A file with this text.
    Text(String),
    /// A link to `/dev/null`, which masks files of the same name elsewhere.
    Masked,
    /// Nothing.
    Absent,
}

impl TrustedDir {
    /// Wraps the open directory at `path`, which was checked; its files may belong to `owner` or root.
    pub(super) fn new(path: PathBuf, handle: OwnedFd, owner: u32) -> Self {
        Self {
            path,
            handle,
            owner,
        }
    }

    /// The path of `name` in it, for messages.
    #[must_use]
    pub fn display(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// The names in it, sorted. Names that are not UTF-8 are left out, since no caller can ask for them.
    pub fn names(&self) -> Result<Vec<String>, TrustError> {
        atomic_file::names(&self.handle).map_err(os("list", &self.path))
    }

    /// The content of `name`.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it cannot be read, or somebody else can write it.
    pub fn read(&self, name: &str) -> Result<Content, TrustError> {
        let path = self.path.join(name);
        let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        // O_NONBLOCK does not wait for the other end of a pipe; O_NOCTTY does not attach to a terminal.
        let flags = flags | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        match openat(&self.handle, name, flags, Mode::empty()) {
            Ok(fd) => {
                let stat = fstat(&fd).map_err(os("inspect", &path))?;
                check(&stat, self.owner, &path)?;
                text(fd, &stat, &path).map(Content::Text)
            }
            Err(Errno::ENOENT) => Ok(Content::Absent),
            Err(Errno::ELOOP) => self.link(name),
            Err(errno) => Err(os("open", &path)(errno)),
        }
    }

    /// The path of the program `name`; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if it is not a program, or somebody else can write it.
    pub fn program(&self, name: &str) -> Result<Option<PathBuf>, TrustError> {
        let path = self.path.join(name);
        let flags = OFlag::O_PATH | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let fd = match openat(&self.handle, name, flags, Mode::empty()) {
            Err(Errno::ENOENT) => return Ok(None),
            other => other.map_err(os("open", &path))?,
        };
        let stat = fstat(&fd).map_err(os("inspect", &path))?;
        let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
        // Check the type before the mode: the mode of a link says that everybody can write it.
        if kind != SFlag::S_IFREG || stat.st_mode & 0o111 == 0 {
            return Err(TrustError::NotAProgram(path.display().to_string()));
        }
        check(&stat, self.owner, &path)?;
        Ok(Some(path))
    }

    /// Replaces `name` with a file of `text`, atomically and synced to disk.
    pub fn replace(&self, name: &str, text: &[u8], mode: u32) -> Result<(), TrustError> {
        let mode = Mode::from_bits_truncate(mode);
        let path = self.path.join(name);
        atomic_file::replace(&self.handle, name, text, mode).map_err(os("write", &path))
    }

    /// Removes `name`, if it exists.
    pub fn remove(&self, name: &str) -> Result<(), TrustError> {
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => Ok(()),
            Err(errno) => Err(os("remove", &self.path.join(name))(errno)),
        }
    }

    fn link(&self, name: &str) -> Result<Content, TrustError> {
        let path = self.path.join(name);
        let target = readlinkat(self.handle.as_fd(), name).map_err(os("read the link", &path))?;
        if target == "/dev/null" {
            return Ok(Content::Masked);
        }
        Err(TrustError::Link {
            path: path.display().to_string(),
            target: target.to_string_lossy().into_owned(),
        })
    }
}

/// The text of the open regular file `fd`.
fn text(fd: OwnedFd, stat: &FileStat, path: &Path) -> Result<String, TrustError> {
    let shown = || path.display().to_string();
    if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
        return Err(TrustError::NotAFile(shown()));
    }
    let mut bytes = Vec::new();
    let more = u64::try_from(FILE_LIMIT)
        .unwrap_or(u64::MAX)
        .saturating_add(1);
    if let Err(error) = File::from(fd).take(more).read_to_end(&mut bytes) {
        return Err(os("read", path)(errno(&error)));
    }
    if bytes.len() > FILE_LIMIT {
        return Err(TrustError::TooLong(shown()));
    }
    String::from_utf8(bytes).map_err(|_| TrustError::NotText(shown()))
}

/// The text of the file at `path` that a person names, whoever can write it: for commands that change nothing.
pub fn read_untrusted(path: &Path) -> Result<String, TrustError> {
    let flags = OFlag::O_RDONLY | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
    let fd = nix::fcntl::open(path, flags, Mode::empty()).map_err(os("open", path))?;
    let stat = fstat(&fd).map_err(os("inspect", path))?;
    text(fd, &stat, path)
}

// SPDX-License-Identifier: GPL-2.0-only
//! A kernel file system, opened once as a directory handle.
//!
//! Everything is read and written relative to that handle, and nothing outside it is reached: the kernel resolves each path
//! with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS` (openat2(2)), and symbolic links, which sysfs uses throughout, are read
//! and resolved by [`KernFs::link`] instead. Reads are bounded, and text is checked before it is returned, so that no control
//! character of a hostile device name reaches a terminal.

mod dir;

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::{openat2, readlinkat, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{fstat, Mode, SFlag};
use nix::sys::statfs::{fstatfs, FsType};

use super::error::OsError;
use crate::sys::error::errno;

pub use dir::KernDir;

/// The most that is read of one attribute, in bytes. The kernel's limit for sysfs is one page, which is at most 64 KiB.
pub const ATTRIBUTE_LIMIT: usize = 64 * 1024;

/// The file system cannot be read, or has something unexpected in it.
#[derive(Debug, thiserror::Error)]
pub enum KernFsError {
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
    /// The root is not the file system it should be.
    #[error("{0} is not a {1} file system")]
    WrongFileSystem(String, &'static str),
    /// A link leads out of the tree.
    #[error("{0} is a link that leads out of the tree; it was not followed")]
    Outside(String),
    /// The file is longer than the limit.
    #[error("{path} is longer than {limit} bytes; it was not read")]
    TooLong {
        /// The file.
        path: String,
        /// The limit, in bytes.
        limit: usize,
    },
    /// It is not a regular file.
    #[error("{0} is not a regular file; it was not read")]
    NotAFile(String),
    /// Its bytes are not all printable ASCII.
    #[error("{0} holds something other than text; it was ignored")]
    NotText(String),
    /// A line of it cannot be parsed.
    #[error("{path}, line {line}: {why}; the line was ignored")]
    Line {
        /// The file.
        path: String,
        /// The number of the line, from 1.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
}

impl KernFsError {
    /// The errno behind it, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os(OsError { errno, .. }) => Some(*errno),
            _ => None,
        }
    }
}

/// A directory and everything beneath it. The paths given to its methods are relative to it.
#[derive(Debug)]
pub struct KernFs {
    root: PathBuf,
    handle: OwnedFd,
}

/// Whether `errno` means that there is nothing to read: ENOENT and ENOTDIR from looking up a path, ENODEV when the object
/// behind an open attribute is gone.
fn is_absent(errno: Errno) -> bool {
    matches!(errno, Errno::ENOENT | Errno::ENOTDIR | Errno::ENODEV)
}

impl KernFs {
    /// Opens `root`. With `magic`, the file system must have that type (the second part is its name).
    ///
    /// # Errors
    ///
    /// [`KernFsError::Os`] if it cannot be opened, [`KernFsError::WrongFileSystem`] if it has another type.
    pub fn open(root: &Path, magic: Option<(FsType, &'static str)>) -> Result<Self, KernFsError> {
        let failed = |verb, errno| {
            KernFsError::Os(OsError {
                verb,
                path: root.display().to_string(),
                errno,
            })
        };
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let handle = nix::fcntl::open(root, flags, Mode::empty()).map_err(|e| failed("open", e))?;
        if let Some((wanted, name)) = magic {
            let found = fstatfs(&handle).map_err(|e| failed("inspect", e))?;
            if found.filesystem_type() != wanted {
                return Err(KernFsError::WrongFileSystem(
                    root.display().to_string(),
                    name,
                ));
            }
        }
        Ok(Self {
            root: root.to_owned(),
            handle,
        })
    }

    /// `path` with the root before it, for messages.
    #[must_use]
    pub fn display(&self, path: &str) -> String {
        self.root.join(path).display().to_string()
    }

    fn failed(&self, verb: &'static str, path: &str, errno: Errno) -> KernFsError {
        if errno == Errno::ELOOP || errno == Errno::EXDEV {
            return KernFsError::Outside(self.display(path));
        }
        KernFsError::Os(OsError {
            verb,
            path: self.display(path),
            errno,
        })
    }

    fn open_beneath(&self, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
        open_beneath(&self.handle, path, flags)
    }

    /// Opens the directory at `path`, to read its entries without looking them up from the root each time; `None` if there is
    /// no such directory.
    pub fn dir(&self, path: &str) -> Result<Option<KernDir<'_>>, KernFsError> {
        KernDir::open(self, &self.handle, path, path.to_owned())
    }

    /// The bytes of the file at `path`; `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// [`KernFsError::TooLong`] if there are more than `limit` bytes, [`KernFsError::NotAFile`],
    /// [`KernFsError::Outside`], or [`KernFsError::Os`].
    pub fn bytes(&self, path: &str, limit: usize) -> Result<Option<Vec<u8>>, KernFsError> {
        // O_NONBLOCK does not wait for the other end of a pipe; O_NOCTTY does not attach to a terminal.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let fd = match self.open_beneath(path, flags) {
            Err(errno) if is_absent(errno) => return Ok(None),
            other => other.map_err(|e| self.failed("open", path, e))?,
        };
        let stat = fstat(&fd).map_err(|e| self.failed("inspect", path, e))?;
        if SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT != SFlag::S_IFREG {
            return Err(KernFsError::NotAFile(self.display(path)));
        }
        let mut bytes = Vec::new();
        let more = u64::try_from(limit).unwrap_or(u64::MAX).saturating_add(1);
        if let Err(error) = File::from(fd).take(more).read_to_end(&mut bytes) {
            let errno = errno(&error);
            if is_absent(errno) {
                return Ok(None);
            }
            return Err(self.failed("read", path, errno));
        }
        if bytes.len() > limit {
            let path = self.display(path);
            return Err(KernFsError::TooLong { path, limit });
        }
        Ok(Some(bytes))
    }

    /// The text of the attribute at `path`, without the newline at its end; `None` if the file is missing or empty. Newlines
    /// within it are kept.
    ///
    /// # Errors
    ///
    /// [`KernFsError::NotText`] if it holds anything but printable ASCII, tabs and newlines, and the errors of
    /// [`KernFs::bytes`].
    pub fn text(&self, path: &str) -> Result<Option<String>, KernFsError> {
        let Some(bytes) = self.bytes(path, ATTRIBUTE_LIMIT)? else {
            return Ok(None);
        };
        let text = text_of(&bytes).ok_or_else(|| KernFsError::NotText(self.display(path)))?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// The target of the symbolic link at `path`, relative to the root; `None` if there is no such link.
    ///
    /// It is resolved textually. That is exact for sysfs, whose links are relative and never lead through other links.
    ///
    /// # Errors
    ///
    /// [`KernFsError::Outside`] if it leads out of the root, [`KernFsError::NotText`], or [`KernFsError::Os`].
    pub fn link(&self, path: &str) -> Result<Option<String>, KernFsError> {
        let directory = path
            .rsplit_once('/')
            .map_or(".", |(directory, _)| directory);
        let Some(target) = self.link_text(path)? else {
            return Ok(None);
        };
        join(directory, &target)
            .map(Some)
            .ok_or_else(|| KernFsError::Outside(self.display(path)))
    }

    /// The text of the symbolic link at `path`, which may lead outside the root or nowhere: for an open file in procfs it is
    /// the path of the file. `None` if there is no such link.
    pub fn link_text(&self, path: &str) -> Result<Option<String>, KernFsError> {
        // Resolve the directory like every other path; only the last component may be a link.
        let (directory, name) = path.rsplit_once('/').unwrap_or((".", path));
        let parent = match self.open_beneath(directory, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(errno) if is_absent(errno) => return Ok(None),
            other => other.map_err(|e| self.failed("open", directory, e))?,
        };
        self.link_in(&parent, name, path)
    }

    /// The text of the link `name` in the open directory `parent`; `path` is for messages.
    fn link_in(
        &self,
        parent: impl AsFd,
        name: &str,
        path: &str,
    ) -> Result<Option<String>, KernFsError> {
        let target = match readlinkat(parent, name) {
            // EINVAL: it exists, but is not a link.
            Err(errno) if is_absent(errno) || errno == Errno::EINVAL => return Ok(None),
            other => other.map_err(|e| self.failed("read the link", path, e))?,
        };
        let printable = |b: u8| b.is_ascii_graphic() || b == b' ';
        match target.to_str() {
            Some(text) if text.bytes().all(printable) => Ok(Some(text.to_owned())),
            _ => Err(KernFsError::NotText(self.display(path))),
        }
    }

    /// The last component of the target of the link at `path`: the name of a driver, a bus or a group.
    pub fn link_name(&self, path: &str) -> Result<Option<String>, KernFsError> {
        let target = self.link(path)?;
        Ok(target.map(|t| t.rsplit('/').next().unwrap_or(&t).to_owned()))
    }

    /// The names in the directory at `path`, sorted; `None` if there is no such directory. Names that are not printable ASCII
    /// are left out: the kernel creates none.
    pub fn names(&self, path: &str) -> Result<Option<Vec<String>>, KernFsError> {
        let fd = match self.open_beneath(path, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(errno) if is_absent(errno) => return Ok(None),
            other => other.map_err(|e| self.failed("open", path, e))?,
        };
        let mut directory = Dir::from_fd(fd).map_err(|e| self.failed("list", path, e))?;
        self.names_in(&mut directory, path).map(Some)
    }

    /// The names in an open directory; `path` is for messages.
    fn names_in(&self, directory: &mut Dir, path: &str) -> Result<Vec<String>, KernFsError> {
        let mut names = Vec::new();
        for entry in directory.iter() {
            let entry = entry.map_err(|e| self.failed("list", path, e))?;
            if let Ok(name) = entry.file_name().to_str() {
                if name != "." && name != ".." && name.bytes().all(|b| matches!(b, b' '..=b'~')) {
                    names.push(name.to_owned());
                }
            }
        }
        names.sort();
        Ok(names)
    }

    /// Whether there is a directory at `path`.
    #[must_use]
    pub fn is_directory(&self, path: &str) -> bool {
        self.open_beneath(path, OFlag::O_PATH | OFlag::O_DIRECTORY)
            .is_ok()
    }

    /// The open root. It gives its holder no more rights than the path would.
    #[must_use]
    pub fn handle(&self) -> BorrowedFd<'_> {
        self.handle.as_fd()
    }
}

/// Opens the file at `path` below `root` (a [`KernFs::handle`]) for writing, without creating it. Truncates it as `>` does in a
/// shell: sysfs ignores that, and a plain file of a test tree then holds just what was written, like an attribute.
pub fn open_to_write(root: impl AsFd, path: &str) -> nix::Result<OwnedFd> {
    open_beneath(root, path, OFlag::O_WRONLY | OFlag::O_TRUNC)
}

/// Opens `path` below `handle`, and nothing outside.
fn open_beneath(handle: impl AsFd, path: &str, flags: OFlag) -> nix::Result<OwnedFd> {
    let how = OpenHow::new()
        .flags(flags | OFlag::O_CLOEXEC)
        .resolve(ResolveFlag::RESOLVE_BENEATH | ResolveFlag::RESOLVE_NO_SYMLINKS);
    loop {
        // Retry: a rename elsewhere in the tree can make openat2(2) with RESOLVE_BENEATH fail with EAGAIN.
        match openat2(handle.as_fd(), path, how) {
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            other => return other,
        }
    }
}

/// `bytes` as text, without the newline at its end; `None` unless all of it is printable ASCII, tabs and newlines.
fn text_of(bytes: &[u8]) -> Option<&str> {
    let printable = |b: &u8| matches!(b, b' '..=b'~' | b'\t' | b'\n');
    let text = std::str::from_utf8(bytes).ok()?;
    text.bytes().all(|b| printable(&b)).then(|| text.trim_end())
}

/// `directory` joined with the relative path `target`, with `.` and `..` resolved; `None` if that leads above the
/// root or `target` is absolute.
fn join(directory: &str, target: &str) -> Option<String> {
    if target.starts_with('/') {
        return None;
    }
    let mut parts: Vec<&str> = Vec::new();
    for part in directory.split('/').chain(target.split('/')) {
        match part {
            "" | "." => {}
            ".." => {
                parts.pop()?;
            }
            name => parts.push(name),
        }
    }
    (!parts.is_empty()).then(|| parts.join("/"))
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    /// A tree with the folder `a/b`.
    pub(super) fn tree() -> (tempfile::TempDir, KernFs) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("a/b")).unwrap();
        let tree = KernFs::open(dir.path(), None).unwrap();
        (dir, tree)
    }

    #[test]
    fn absence_is_not_an_error() {
        let (_dir, tree) = tree();
        assert!(tree.text("a/missing").unwrap().is_none());
        assert!(tree.text("no/such/dir").unwrap().is_none());
        assert!(tree.link("a/missing").unwrap().is_none());
        assert!(tree.link("a/b").unwrap().is_none());
        assert!(tree.names("a/missing").unwrap().is_none());
    }

    #[test]
    fn text_is_checked() {
        let (dir, tree) = tree();
        let put = |text: &[u8]| fs::write(dir.path().join("a/f"), text).unwrap();
        put(b"DMA-FQ\n");
        assert_eq!(tree.text("a/f").unwrap().as_deref(), Some("DMA-FQ"));
        put(b"");
        assert_eq!(tree.text("a/f").unwrap(), None);
        put(b"\x1b[2Jboo\n");
        assert!(matches!(tree.text("a/f"), Err(KernFsError::NotText(_))));
        put(&[0xff, 0xfe]);
        assert!(matches!(tree.text("a/f"), Err(KernFsError::NotText(_))));
        put(&vec![b'x'; ATTRIBUTE_LIMIT]);
        assert!(tree.text("a/f").unwrap().is_some());
        put(&vec![b'x'; ATTRIBUTE_LIMIT + 1]);
        assert!(matches!(tree.text("a/f"), Err(KernFsError::TooLong { .. })));
        assert!(matches!(tree.text("a/b"), Err(KernFsError::NotAFile(_))));
    }

    #[test]
    fn links_are_resolved_inside_and_refused_outside() {
        let (dir, tree) = tree();
        let link = |target: &str, at: &str| symlink(target, dir.path().join(at)).unwrap();
        link("../../c/d", "a/b/inside");
        link("../../../etc", "a/b/outside");
        link("/etc", "a/absolute");
        assert_eq!(tree.link("a/b/inside").unwrap().as_deref(), Some("c/d"));
        assert_eq!(tree.link_name("a/b/inside").unwrap().as_deref(), Some("d"));
        assert!(matches!(
            tree.link("a/b/outside"),
            Err(KernFsError::Outside(_))
        ));
        assert!(matches!(
            tree.link("a/absolute"),
            Err(KernFsError::Outside(_))
        ));
    }

    #[test]
    fn nothing_is_opened_through_a_link() {
        let (dir, tree) = tree();
        symlink("/etc/passwd", dir.path().join("a/type")).unwrap();
        symlink("/etc", dir.path().join("etc")).unwrap();
        assert!(matches!(tree.text("a/type"), Err(KernFsError::Outside(_))));
        assert!(matches!(
            tree.text("etc/passwd"),
            Err(KernFsError::Outside(_))
        ));
        assert!(matches!(
            tree.text("../etc/passwd"),
            Err(KernFsError::Outside(_))
        ));
        assert!(open_to_write(tree.handle(), "a/type").is_err());
    }

    #[test]
    fn file_system_is_checked() {
        let wrong = KernFs::open(
            Path::new("/proc"),
            Some((nix::sys::statfs::SYSFS_MAGIC, "sysfs")),
        );
        assert!(matches!(wrong, Err(KernFsError::WrongFileSystem(..))));
    }
}

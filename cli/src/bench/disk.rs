// SPDX-License-Identifier: GPL-2.0-only
//! An open disk. It is opened read-only, so nothing here can write.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek as _, SeekFrom};
use std::os::unix::fs::{FileTypeExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use nix::errno::Errno;
use nix::libc::O_DIRECT;
use nix::sys::stat::{major, minor};

use super::measure::schedule::{Load, LARGE_READ_SIZE};
use crate::sys::error::{errno, OsError};

/// How long after the end of its measurement a read may still be in flight.
pub const READ_TIMEOUT: Duration = Duration::from_secs(10);
/// The size of a read, unless the disk has larger blocks: one page, which has a mapping of its own.
const PAGE_SIZE: u64 = 4096;
/// The largest block size that a disk may have.
const MAX_BLOCK_SIZE: u64 = 1 << 20;
/// The disk cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
    /// The node is not that of the requested disk.
    #[error("{0} is not the node of that disk")]
    OtherNode(String),
    /// The disk is empty.
    #[error("{0} is empty, or has no medium")]
    Empty(String),
    /// A read timed out.
    #[error("{path} did not answer for {} s", READ_TIMEOUT.as_secs())]
    Silent {
        /// The disk.
        path: String,
    },
}

impl DiskError {
    /// The errno behind it, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os(OsError { errno, .. }) => Some(*errno),
            _ => None,
        }
    }
}

/// An open disk.
#[derive(Clone, Debug)]
pub struct Disk {
    /// The open node, with O_DIRECT.
    pub file: Arc<File>,
    path: String,
    /// The size of a normal read, in bytes.
    pub block: u64,
    bytes: u64,
}

impl Disk {
    /// Opens the node at `path`, which must be that of the device with this number; without a number, for tests, a plain file
    /// is accepted. `logical` is the block size of the disk.
    pub fn open(
        path: &Path,
        number: Option<(u64, u64)>,
        logical: Option<u64>,
    ) -> Result<Self, DiskError> {
        let shown = path.display().to_string();
        let failed = |verb, error: &io::Error| {
            DiskError::Os(OsError {
                verb,
                path: shown.clone(),
                errno: errno(error),
            })
        };
        let open = |flags: i32| OpenOptions::new().read(true).custom_flags(flags).open(path);
        let opened = match open(O_DIRECT) {
            // Retry without O_DIRECT for a test file on a file system without direct I/O; every disk supports it.
            Err(error)
                if number.is_none() && error.raw_os_error() == Some(Errno::EINVAL as i32) =>
            {
                open(0)
            }
            other => other,
        };
        let mut file = opened.map_err(|e| failed("open", &e))?;
        let node = file.metadata().map_err(|e| failed("inspect", &e))?;
        let is_it =
            |n| node.file_type().is_block_device() && (major(node.rdev()), minor(node.rdev())) == n;
        if !number.is_none_or(is_it) {
            return Err(DiskError::OtherNode(shown));
        }
        let bytes = file
            .seek(SeekFrom::End(0))
            .map_err(|e| failed("measure", &e))?;
        // Clamp the block size: the kernel supports only powers of two up to this limit.
        let block = logical.map_or(PAGE_SIZE, |l| {
            l.clamp(PAGE_SIZE, MAX_BLOCK_SIZE).next_power_of_two()
        });
        match bytes / block {
            0 => Err(DiskError::Empty(shown)),
            _ => Ok(Self {
                file: Arc::new(file),
                path: shown,
                block,
                bytes,
            }),
        }
    }

    /// The size of a read of `load`, and how many reads of that size the disk has room for.
    #[must_use]
    pub fn pieces(&self, load: Load) -> (u64, u64) {
        let size = if load.large {
            LARGE_READ_SIZE
        } else {
            self.block
        };
        (size, self.bytes / size)
    }

    /// Whether the disk has room for large reads, and they are larger than the normal ones.
    #[must_use]
    pub fn has_large(&self) -> bool {
        self.block < LARGE_READ_SIZE && self.bytes >= LARGE_READ_SIZE
    }

    /// Describes a failed read.
    #[must_use]
    pub fn failed(&self, verb: &'static str, error: &io::Error) -> DiskError {
        DiskError::Os(OsError {
            verb,
            path: self.path.clone(),
            errno: errno(error),
        })
    }

    /// The error for a disk that does not answer.
    #[must_use]
    pub fn silent(&self) -> DiskError {
        let path = self.path.clone();
        DiskError::Silent { path }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A file that is taken for a disk.
    pub(in crate::bench) fn disk(
        bytes: usize,
    ) -> (tempfile::NamedTempFile, Result<Disk, DiskError>) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), vec![0; bytes]).unwrap();
        let disk = Disk::open(file.path(), None, Some(512));
        (file, disk)
    }

    #[test]
    fn large_reads_take_room() {
        let (_file, small) = disk(64 * 1024);
        assert!(!small.unwrap().has_large());
        let (_file, large) = disk(300 * 1024);
        let large = large.unwrap();
        assert!(large.has_large());
        let pieces = |large_read| {
            large.pieces(Load {
                large: large_read,
                depth: 1,
            })
        };
        assert_eq!(pieces(true), (LARGE_READ_SIZE, 2));
        assert_eq!(pieces(false), (4096, 75));
    }

    #[test]
    fn what_is_no_disk_is_named() {
        let (_file, empty) = disk(100);
        assert!(matches!(empty, Err(DiskError::Empty(_))));
        let (file, _) = disk(8192);
        let other = Disk::open(file.path(), Some((259, 0)), None);
        assert!(matches!(other, Err(DiskError::OtherNode(_))));
        let missing = Disk::open(Path::new("/nonexistent/disk"), None, None);
        assert_eq!(missing.unwrap_err().errno(), Some(Errno::ENOENT));
    }
}

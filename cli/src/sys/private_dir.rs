// SPDX-License-Identifier: GPL-2.0-only
//! The program's own directories: `iommuctl` in `/run`, `/var/log` and `/var/lib`.
//!
//! `/run` has the lock, the journals of rebinds in progress, and the record of a lockdown. They are valid only until the next
//! boot, when the kernel binds every driver and gives every group its default type, so that nothing is left to finish or undo.
//! The other two have the audit log and its state.
//!
//! Whoever can write here can make root write to sysfs. So the directory and its files must belong to the user who runs the
//! program, must not be writable by others, and are never opened through a link.

use std::fs::File;
use std::io::Read;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use iommuctl_policy::GroupId;
use nix::errno::Errno;
use nix::fcntl::{openat, renameat, OFlag};
use nix::sys::stat::{fchmod, fstat, mkdirat, FileStat, Mode, SFlag};
use nix::unistd::{fsync, geteuid, unlinkat, Uid, UnlinkatFlags};

use super::atomic_file;
use super::error::{errno, OsError};

const NAME: &str = "iommuctl";
/// Mode of the directory: private, but others may pass through to `policy.d`, which is public.
const FOLDER: Mode = Mode::S_IRWXU.union(Mode::S_IXGRP).union(Mode::S_IXOTH);
/// Mode of a private file: journals name devices and commands, and a reader could hold a lock on a file.
const FILE: Mode = Mode::S_IRUSR.union(Mode::S_IWUSR);
/// Mode of a public file.
const PUBLIC: Mode = FILE.union(Mode::S_IRGRP).union(Mode::S_IROTH);
/// The largest file that is read, in bytes: more than any journal or record.
const FILE_LIMIT: usize = 4 * 1024 * 1024;

/// The directory cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateDirError {
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
    /// It is not as this program makes it: somebody else owns it or can write it, its type is wrong, it has a second hard link,
    /// or it is too long.
    #[error("{path} is not used: {why}")]
    NotOurs {
        /// The file or directory.
        path: String,
        /// What is wrong with it.
        why: &'static str,
    },
}

impl PrivateDirError {
    /// The errno behind it, if a system call failed.
    #[must_use]
    pub fn errno(&self) -> Option<Errno> {
        match self {
            Self::Os(OsError { errno, .. }) => Some(*errno),
            Self::NotOurs { .. } => None,
        }
    }
}

/// The directory, opened and checked.
///
/// # Invariants
///
/// It is a directory of the effective user that nobody else can write to.
#[derive(Debug)]
pub struct PrivateDir {
    path: PathBuf,
    handle: OwnedFd,
}

impl PrivateDir {
    /// Opens `iommuctl` in `root` (default `/run`), and creates it if it is missing.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it cannot be created, or somebody else owns it or can write it.
    pub fn make(root: Option<&Path>) -> Result<Self, PrivateDirError> {
        let root = root.unwrap_or(Path::new("/run"));
        let parent = directory(root, root)?;
        let path = root.join(NAME);
        match mkdirat(&parent, NAME, FOLDER) {
            Ok(()) | Err(Errno::EEXIST) => {}
            Err(errno) => return Err(failed("make", &path, errno)),
        }
        Self::beneath(&parent, path)
    }

    /// Opens `iommuctl` in `root` without creating it; `None` if it is missing.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it exists and cannot be opened, or somebody else owns it or can write it.
    pub fn find(root: Option<&Path>) -> Result<Option<Self>, PrivateDirError> {
        let root = root.unwrap_or(Path::new("/run"));
        let parent = match directory(root, root) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        match Self::beneath(&parent, root.join(NAME)) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => Ok(None),
            other => other.map(Some),
        }
    }

    fn beneath(parent: &OwnedFd, path: PathBuf) -> Result<Self, PrivateDirError> {
        let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
        let handle = openat(parent, NAME, flags, Mode::empty()).map_err(|e| match e {
            // O_NOFOLLOW with O_DIRECTORY fails with ENOTDIR for a link.
            Errno::ENOTDIR | Errno::ELOOP => PrivateDirError::NotOurs {
                path: path.display().to_string(),
                why: "it is not a directory",
            },
            errno => failed("open", &path, errno),
        })?;
        let stat = check(&handle, &path, SFlag::S_IFDIR)?;
        // Change the mode only if it differs: fchmod(2) fails on a read-only file system, where reading still works.
        if Mode::from_bits_truncate(stat.st_mode) != FOLDER {
            fchmod(&handle, FOLDER).map_err(|e| failed("close to others", &path, e))?;
        }
        // INVARIANT: the open handle was checked above.
        Ok(Self { path, handle })
    }

    /// The path of `name`, for messages.
    #[must_use]
    pub fn display(&self, name: &str) -> String {
        self.path.join(name).display().to_string()
    }

    /// Opens `name` for reading and writing; creates it if it is missing.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if that fails, or somebody else owns the file or can write it.
    pub fn open(&self, name: &str) -> Result<File, PrivateDirError> {
        self.open_with(name, OFlag::O_RDWR | OFlag::O_CREAT)
    }

    /// Opens `name` for reading and appending; creates it if it is missing.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if that fails, or somebody else owns the file or can write it.
    pub fn open_to_append(&self, name: &str) -> Result<File, PrivateDirError> {
        self.open_with(name, OFlag::O_RDWR | OFlag::O_APPEND | OFlag::O_CREAT)
    }

    /// Opens `name` for reading.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it is missing, cannot be opened, or somebody else owns it or can write it.
    pub fn open_to_read(&self, name: &str) -> Result<File, PrivateDirError> {
        self.open_with(name, OFlag::O_RDONLY)
    }

    /// Renames `from` to `to`, replacing it, and syncs the directory.
    pub fn rename(&self, from: &str, to: &str) -> Result<(), PrivateDirError> {
        let renamed = renameat(&self.handle, from, &self.handle, to);
        renamed.map_err(|e| failed("rename", &self.path.join(from), e))?;
        self.sync()
    }

    /// Creates `name`, which must not exist, and syncs the directory.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it exists already, or cannot be created.
    pub fn create(&self, name: &str) -> Result<File, PrivateDirError> {
        let file = self.open_with(name, OFlag::O_WRONLY | OFlag::O_CREAT | OFlag::O_EXCL)?;
        self.sync()?;
        Ok(file)
    }

    /// The bytes of `name`; `None` if there is no such file.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if it cannot be read, is too long, or somebody else owns it or can write it.
    pub fn read(&self, name: &str) -> Result<Option<Vec<u8>>, PrivateDirError> {
        let file = match self.open_with(name, OFlag::O_RDONLY) {
            Err(error) if error.errno() == Some(Errno::ENOENT) => return Ok(None),
            other => other?,
        };
        contents(file, &self.path.join(name)).map(Some)
    }

    /// The names in the directory, sorted.
    pub fn names(&self) -> Result<Vec<String>, PrivateDirError> {
        atomic_file::names(&self.handle).map_err(|e| failed("list", &self.path, e))
    }

    /// The groups with a file here that is named `prefix` followed by the group's number, by number.
    pub fn groups(&self, prefix: &str) -> Result<Vec<GroupId>, PrivateDirError> {
        let names = self.names()?;
        let numbers = names.iter().filter_map(|name| name.strip_prefix(prefix));
        let mut groups: Vec<GroupId> = numbers.filter_map(|n| n.parse().ok()).collect();
        groups.sort();
        Ok(groups)
    }

    /// Replaces `name` with a public file of `bytes`, atomically and synced.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if that fails; the previous file is then unchanged.
    pub fn publish(&self, name: &str, bytes: &[u8]) -> Result<(), PrivateDirError> {
        let path = self.path.join(name);
        atomic_file::replace(&self.handle, name, bytes, PUBLIC)
            .map_err(|e| failed("write", &path, e))
    }

    /// Replaces `name` with a private file of `bytes`, atomically and synced.
    ///
    /// # Errors
    ///
    /// [`PrivateDirError`], if that fails; the previous file is then unchanged.
    pub fn replace(&self, name: &str, bytes: &[u8]) -> Result<(), PrivateDirError> {
        let path = self.path.join(name);
        atomic_file::replace(&self.handle, name, bytes, FILE).map_err(|e| failed("write", &path, e))
    }

    /// Removes `name`, if it exists, and syncs the directory.
    pub fn remove(&self, name: &str) -> Result<(), PrivateDirError> {
        let path = self.path.join(name);
        match unlinkat(&self.handle, name, UnlinkatFlags::NoRemoveDir) {
            Ok(()) | Err(Errno::ENOENT) => self.sync(),
            Err(errno) => Err(failed("remove", &path, errno)),
        }
    }

    fn sync(&self) -> Result<(), PrivateDirError> {
        fsync(&self.handle).map_err(|e| failed("sync", &self.path, e))
    }

    fn open_with(&self, name: &str, flags: OFlag) -> Result<File, PrivateDirError> {
        let path = self.path.join(name);
        // O_NONBLOCK does not wait for the other end of a pipe; O_NOCTTY does not attach to a terminal.
        let careful = OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let handle = openat(&self.handle, name, flags | careful, FILE)
            .map_err(|e| failed("open", &path, e))?;
        check(&handle, &path, SFlag::S_IFREG)?;
        Ok(File::from(handle))
    }
}

/// The bytes of a public file in root's directory, for unprivileged callers, who may only pass through it; `None` if there is
/// no such file.
///
/// # Errors
///
/// [`PrivateDirError`], if it exists and cannot be read, or somebody other than root can write it.
pub fn read_published(root: Option<&Path>, name: &str) -> Result<Option<Vec<u8>>, PrivateDirError> {
    let root = root.unwrap_or(Path::new("/run"));
    let path = root.join(NAME);
    let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC;
    let opened = openat(&directory(root, root)?, NAME, flags, Mode::empty());
    let folder = opened.map_err(|e| failed("open", &path, e))?;
    let owner = Uid::from_raw(0);
    check_owner(&folder, &path, SFlag::S_IFDIR, owner)?;
    let path = path.join(name);
    let careful = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_CLOEXEC | OFlag::O_NONBLOCK;
    let file = match openat(&folder, name, careful, Mode::empty()) {
        Err(Errno::ENOENT) => return Ok(None),
        other => other.map_err(|e| failed("open", &path, e))?,
    };
    check_owner(&file, &path, SFlag::S_IFREG, owner)?;
    contents(File::from(file), &path).map(Some)
}

fn contents(file: File, path: &Path) -> Result<Vec<u8>, PrivateDirError> {
    let limit = u64::try_from(FILE_LIMIT).unwrap_or(u64::MAX);
    let mut bytes = Vec::new();
    let read = file.take(limit.saturating_add(1)).read_to_end(&mut bytes);
    read.map_err(|e| failed("read", path, errno(&e)))?;
    if bytes.len() > FILE_LIMIT {
        let path = path.display().to_string();
        let why = "it is longer than anything that is written here";
        return Err(PrivateDirError::NotOurs { path, why });
    }
    Ok(bytes)
}

fn directory(path: &Path, shown: &Path) -> Result<OwnedFd, PrivateDirError> {
    let flags = OFlag::O_DIRECTORY | OFlag::O_RDONLY | OFlag::O_CLOEXEC;
    nix::fcntl::open(path, flags, Mode::empty()).map_err(|e| failed("open", shown, e))
}

/// Checks that the open file is of the type `wanted`, belongs to us, and cannot be written by others.
fn check(handle: &OwnedFd, path: &Path, wanted: SFlag) -> Result<FileStat, PrivateDirError> {
    check_owner(handle, path, wanted, geteuid())
}

/// Checks that the open file is of the type `wanted`, belongs to `owner`, and cannot be written by others.
fn check_owner(
    handle: &OwnedFd,
    path: &Path,
    wanted: SFlag,
    owner: Uid,
) -> Result<FileStat, PrivateDirError> {
    let stat = fstat(handle).map_err(|e| failed("inspect", path, e))?;
    let kind = SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT;
    let others = Mode::S_IWGRP | Mode::S_IWOTH;
    let why = if kind != wanted {
        "it is neither a plain file nor a directory of ours"
    } else if stat.st_uid != owner.as_raw() {
        "it belongs to somebody else"
    } else if Mode::from_bits_truncate(stat.st_mode).intersects(others) {
        "others can write to it"
    } else if kind == SFlag::S_IFREG && stat.st_nlink > 1 {
        "it has a second name elsewhere"
    } else {
        return Ok(stat);
    };
    let path = path.display().to_string();
    Err(PrivateDirError::NotOurs { path, why })
}

fn failed(verb: &'static str, path: &Path, errno: Errno) -> PrivateDirError {
    let path = path.display().to_string();
    PrivateDirError::Os(OsError { verb, path, errno })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o7777
    }

    #[test]
    fn folder_and_files_are_for_us_alone() {
        let root = tempfile::tempdir().unwrap();
        assert!(PrivateDir::find(Some(root.path())).unwrap().is_none());
        let run = PrivateDir::make(Some(root.path())).unwrap();
        run.create("rebind-3").unwrap();
        assert_eq!(mode(&root.path().join("iommuctl")), 0o711);
        assert_eq!(mode(&root.path().join("iommuctl/rebind-3")), 0o600);
        assert!(run.create("rebind-3").is_err());
        assert_eq!(run.names().unwrap(), ["rebind-3"]);
        run.remove("rebind-3").unwrap();
        assert!(run.read("rebind-3").unwrap().is_none());
        run.publish("lockdown.json", b"old").unwrap();
        run.publish("lockdown.json", b"new").unwrap();
        assert_eq!(run.read("lockdown.json").unwrap().unwrap(), b"new");
        assert_eq!(mode(&root.path().join("iommuctl/lockdown.json")), 0o644);
        assert_eq!(run.names().unwrap(), ["lockdown.json"]);
    }

    #[test]
    fn what_others_can_write_to_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let folder = root.path().join("iommuctl");
        fs::create_dir(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o770)).unwrap();
        let error = PrivateDir::make(Some(root.path())).unwrap_err();
        assert!(error.to_string().contains("others can write"), "{error}");
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
        let run = PrivateDir::make(Some(root.path())).unwrap();
        fs::write(folder.join("rebind-3"), "x").unwrap();
        fs::set_permissions(folder.join("rebind-3"), fs::Permissions::from_mode(0o666)).unwrap();
        assert!(run.read("rebind-3").is_err());
    }

    #[test]
    fn nothing_is_opened_through_a_link() {
        let root = tempfile::tempdir().unwrap();
        let other = tempfile::tempdir().unwrap();
        symlink(other.path(), root.path().join("iommuctl")).unwrap();
        assert!(PrivateDir::make(Some(root.path())).is_err());
        fs::remove_file(root.path().join("iommuctl")).unwrap();
        let run = PrivateDir::make(Some(root.path())).unwrap();
        let victim = other.path().join("victim");
        fs::write(&victim, "x").unwrap();
        symlink(&victim, root.path().join("iommuctl/lock")).unwrap();
        assert!(run.open("lock").is_err());
        fs::hard_link(&victim, root.path().join("iommuctl/rebind-1")).unwrap();
        assert!(run.read("rebind-1").is_err());
    }
}

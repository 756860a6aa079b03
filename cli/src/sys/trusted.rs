// SPDX-License-Identifier: GPL-2.0-only
//! Files that decide about protection, and must be writable by root only.
//!
//! A directory is opened once, and its handle is checked together with every directory above it up to the root, since whoever
//! can rename one of those can replace it. A file is opened below its directory without following a link, and the check is made
//! on the open file, not on its name. Links *on the way* to a directory are followed within the root (`/usr/local` is one on
//! some systems); the check of the directory that was reached covers them.

mod dir;

use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{openat, openat2, OFlag, OpenHow, ResolveFlag};
use nix::sys::stat::{fstat, FileStat, Mode, SFlag};
use nix::unistd::geteuid;

use super::error::OsError;

pub use dir::{read_untrusted, Content, TrustedDir};

/// The longest file that is read, in bytes. A policy of a thousand rules has a few hundred thousand.
pub const FILE_LIMIT: usize = 4 * 1024 * 1024;

/// A file or directory is not trusted, or cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TrustError {
    /// A system call failed.
    #[error(transparent)]
    Os(#[from] OsError),
    /// It belongs to somebody else.
    #[error(
        "{path} belongs to user {uid}, who could change it; it must belong to root (`chown root`)"
    )]
    Owner {
        /// The file or directory.
        path: String,
        /// The user it belongs to.
        uid: u32,
    },
    /// Its mode lets somebody else write.
    #[error(
        "{path} can be written by others than root (mode {mode:04o}); {}",
        remedy(path, *folder)
    )]
    Writable {
        /// The file or directory.
        path: String,
        /// Its mode.
        mode: u32,
        /// Whether it is a directory.
        folder: bool,
    },
    /// It is a link to something other than `/dev/null`.
    #[error("{path} is a link to {target}; only one to /dev/null means something here (it masks the file)")]
    Link {
        /// The link.
        path: String,
        /// Where it leads.
        target: String,
    },
    /// It is a pipe, a device or a directory.
    #[error("{0} is not a regular file")]
    NotAFile(String),
    /// It is not an executable file.
    #[error("{0} is not an executable file")]
    NotAProgram(String),
    /// It is too long.
    #[error("{0} is longer than {FILE_LIMIT} bytes")]
    TooLong(String),
    /// It is not text.
    #[error("{0} is not text in UTF-8")]
    NotText(String),
}

/// The root under which `/etc`, `/run` and `/usr` are.
#[derive(Debug)]
pub struct Root {
    path: PathBuf,
    handle: OwnedFd,
    stat: FileStat,
    /// The user who is trusted besides root.
    owner: u32,
    runs_programs: bool,
}

fn os(verb: &'static str, path: &Path) -> impl FnOnce(Errno) -> TrustError {
    let path = path.display().to_string();
    move |errno| TrustError::Os(OsError { verb, path, errno })
}

/// Checks that only `owner` and root can write the file of `stat`. An access control list shows in the group bits.
fn check(stat: &FileStat, owner: u32, path: &Path) -> Result<(), TrustError> {
    let path = || path.display().to_string();
    if stat.st_uid != 0 && stat.st_uid != owner {
        return Err(TrustError::Owner {
            path: path(),
            uid: stat.st_uid,
        });
    }
    if stat.st_mode & 0o022 != 0 {
        return Err(TrustError::Writable {
            path: path(),
            mode: stat.st_mode & 0o7777,
            folder: SFlag::from_bits_truncate(stat.st_mode) & SFlag::S_IFMT == SFlag::S_IFDIR,
        });
    }
    Ok(())
}

/// The advice that makes `path` safe. It suggests chmod for a file and for the program's own directories, but not for any other
/// directory: others need `/tmp`.
fn remedy(path: &str, folder: bool) -> &'static str {
    let is_ours = ["iommuctl", "policy.d"]
        .iter()
        .any(|name| Path::new(path).file_name() == Some(std::ffi::OsStr::new(name)));
    if folder && !is_ours {
        "move the file to a folder that only root can write, such as /root"
    } else {
        "`chmod go-w` keeps them out"
    }
}

fn same(a: &FileStat, b: &FileStat) -> bool {
    (a.st_dev, a.st_ino) == (b.st_dev, b.st_ino)
}

impl Root {
    /// Opens `/`, or `root` for tests. The owner of a test root is trusted besides root, unless root itself runs this. Programs
    /// below a test root are not run.
    pub fn open(root: Option<&Path>) -> Result<Self, TrustError> {
        let path = root.unwrap_or(Path::new("/")).to_owned();
        let flags = OFlag::O_DIRECTORY | OFlag::O_CLOEXEC | OFlag::O_PATH;
        let handle = nix::fcntl::open(&path, flags, Mode::empty()).map_err(os("open", &path))?;
        let stat = fstat(&handle).map_err(os("inspect", &path))?;
        let owner = match geteuid().is_root() {
            true => 0,
            false => stat.st_uid,
        };
        let runs_programs = root.is_none();
        Ok(Self {
            path,
            handle,
            stat,
            owner,
            runs_programs,
        })
    }

    /// Returns the same root with its programs allowed to run.
    #[must_use]
    pub fn with_programs(self) -> Self {
        let runs_programs = true;
        Self {
            runs_programs,
            ..self
        }
    }

    /// Whether programs below it may be run.
    #[must_use]
    pub fn runs_programs(&self) -> bool {
        self.runs_programs
    }

    /// Opens the directory at `path`, relative to the root; `None` if there is none.
    ///
    /// # Errors
    ///
    /// [`TrustError`] if somebody else can write it, or a directory above it.
    pub fn dir(&self, path: &str) -> Result<Option<TrustedDir>, TrustError> {
        let full = self.path.join(path);
        let how = OpenHow::new()
            .flags(OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC)
            .resolve(ResolveFlag::RESOLVE_IN_ROOT | ResolveFlag::RESOLVE_NO_MAGICLINKS);
        let handle = loop {
            match openat2(&self.handle, path, how) {
                Err(Errno::EAGAIN | Errno::EINTR) => {}
                Err(Errno::ENOENT) => return Ok(None),
                other => break other.map_err(os("open", &full))?,
            }
        };
        self.check_upwards(&handle, &full)?;
        Ok(Some(TrustedDir::new(full, handle, self.owner)))
    }

    /// Checks `handle` and every directory above it, up to the root.
    fn check_upwards(&self, handle: &OwnedFd, path: &Path) -> Result<(), TrustError> {
        let mut path = path.to_owned();
        let mut stat = fstat(handle).map_err(os("inspect", &path))?;
        let mut above: Option<OwnedFd> = None;
        loop {
            check(&stat, self.owner, &path)?;
            if same(&stat, &self.stat) {
                return Ok(());
            }
            let here = above.as_ref().unwrap_or(handle);
            let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
            let next = openat(here, "..", flags, Mode::empty()).map_err(os("open", &path))?;
            let next_stat = fstat(&next).map_err(os("inspect", &path))?;
            if same(&next_stat, &stat) {
                // This is the top of the file system: the root was replaced meanwhile, or lies elsewhere.
                return Ok(());
            }
            path.pop();
            stat = next_stat;
            above = Some(next);
        }
    }

    /// Whether there is a program at `path`. Its trust is not checked: whoever can replace root's programs has root already.
    #[must_use]
    pub fn has_program(&self, path: &str) -> bool {
        self.path.join(path).is_file()
    }

    /// The path of the program at `path`; `None` if there is none, or if programs below this root are not run.
    #[must_use]
    pub fn program(&self, path: &str) -> Option<PathBuf> {
        (self.runs_programs && self.has_program(path)).then(|| self.path.join(path))
    }

    /// `path` with the root before it, for messages.
    #[must_use]
    pub fn display(&self, path: &str) -> String {
        self.path.join(path).display().to_string()
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{symlink, PermissionsExt};

    use super::*;

    fn root() -> (tempfile::TempDir, Root) {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir_all(dir.path().join("etc/p.d")).unwrap();
        for folder in ["etc", "etc/p.d"] {
            chmod(&dir.path().join(folder), 0o755);
        }
        let root = Root::open(Some(dir.path())).unwrap();
        (dir, root)
    }

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn reads_what_only_root_can_write() {
        let (dir, root) = root();
        let file = dir.path().join("etc/p.d/a");
        fs::write(&file, "text").unwrap();
        chmod(&file, 0o644);
        let read = || root.dir("etc/p.d").and_then(|f| f.unwrap().read("a"));
        assert_eq!(read().unwrap(), Content::Text("text".to_owned()));
        for mode in [0o664, 0o646] {
            chmod(&file, mode);
            assert!(matches!(read(), Err(TrustError::Writable { .. })));
        }
        chmod(&file, 0o600);
        assert!(read().is_ok());
    }

    #[test]
    fn every_folder_above_counts() {
        let (dir, root) = root();
        for folder in ["etc/p.d", "etc", "."] {
            let folder = dir.path().join(folder);
            chmod(&folder, 0o777);
            assert!(
                matches!(root.dir("etc/p.d"), Err(TrustError::Writable { .. })),
                "{}",
                folder.display()
            );
            chmod(&folder, 0o755);
        }
        assert!(root.dir("etc/p.d").unwrap().is_some());
        assert!(root.dir("etc/q.d").unwrap().is_none());
    }

    #[test]
    fn only_what_is_ours_is_to_be_closed() {
        for (path, folder, closes) in [
            ("/tmp", true, false),
            ("/etc", true, false),
            ("/etc/iommuctl", true, true),
            ("/etc/iommuctl/policy.d", true, true),
            ("/tmp/x.yaml", false, true),
        ] {
            assert_eq!(remedy(path, folder).contains("chmod"), closes, "{path}");
        }
    }

    #[test]
    fn another_owner_is_refused() {
        if !geteuid().is_root() {
            eprintln!("skipped: only root can give files away");
            return;
        }
        let (dir, root) = root();
        let file = dir.path().join("etc/p.d/a");
        fs::write(&file, "text").unwrap();
        std::os::unix::fs::chown(&file, Some(12345), None).unwrap();
        let folder = root.dir("etc/p.d").unwrap().unwrap();
        assert!(matches!(
            folder.read("a"),
            Err(TrustError::Owner { uid: 12345, .. })
        ));
    }

    #[test]
    fn links_are_not_followed_but_null_masks() {
        let (dir, root) = root();
        let at = |name: &str| dir.path().join("etc/p.d").join(name);
        symlink("/dev/null", at("masked")).unwrap();
        symlink("/etc/hostname", at("link")).unwrap();
        nix::unistd::mkfifo(&at("pipe"), Mode::S_IRUSR).unwrap();
        let folder = root.dir("etc/p.d").unwrap().unwrap();
        assert_eq!(folder.read("masked").unwrap(), Content::Masked);
        assert!(matches!(folder.read("link"), Err(TrustError::Link { .. })));
        assert!(matches!(folder.read("pipe"), Err(TrustError::NotAFile(_))));
        assert_eq!(folder.read("none").unwrap(), Content::Absent);
    }

    #[test]
    fn programs_of_others_are_not_run() {
        let (dir, root) = root();
        let at = |name: &str| dir.path().join("etc/p.d").join(name);
        fs::write(at("tool"), "").unwrap();
        chmod(&at("tool"), 0o755);
        symlink("tool", at("link")).unwrap();
        let folder = root.dir("etc/p.d").unwrap().unwrap();
        assert_eq!(folder.program("tool").unwrap(), Some(at("tool")));
        assert_eq!(folder.program("none").unwrap(), None);
        let not = |name: &str| matches!(folder.program(name), Err(TrustError::NotAProgram(_)));
        assert!(not("link"));
        chmod(&at("tool"), 0o644);
        assert!(not("tool"));
        chmod(&at("tool"), 0o775);
        assert!(matches!(
            folder.program("tool"),
            Err(TrustError::Writable { .. })
        ));
    }

    #[test]
    fn links_on_the_way_stay_in_the_root() {
        let (dir, root) = root();
        symlink("/etc", dir.path().join("alias")).unwrap();
        assert!(root.dir("alias/p.d").unwrap().is_some());
    }
}

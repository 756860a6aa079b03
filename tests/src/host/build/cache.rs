// SPDX-License-Identifier: GPL-2.0-only
//! The folder where everything that was made is kept between runs.
//!
//! ```text
//! root/                    a small Debian: compilers, QEMU, busybox, kernel headers and source
//! root/foreign/ARCH/       busybox for a machine of another architecture
//! root/build/RELEASE/      the prepared kernel tree of one release, and the modules built against it
//! system/, fleet/          Debian systems that are booted from a disk
//! controller/              a small Debian with Ansible
//! kernel/RELEASE/          the kernel image and its modules, unpacked; of another architecture, its headers too
//! out/RELEASE/             our modules, built
//! run/                     one folder per virtual machine: console log, report, disks
//! tools/                   development tools installed by cargo
//! logs/                    one file per step
//! ```

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context as _, Result};
use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::host::build::command::Log;
use crate::host::build::progress::say;

/// The environment variable that puts the cache elsewhere.
pub const VARIABLE: &str = "IOMMUCTL_CACHE";

/// In every cache folder; what has none is not touched.
const MARK: &str = "CACHE-OF-IOMMUCTL";

/// The cache folder.
#[derive(Clone, Debug)]
pub struct Cache {
    path: PathBuf,
}

/// Held while something in the cache is made; gives the cache back when dropped.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Cache {
    /// The cache of this user: `$IOMMUCTL_CACHE`, else `$XDG_CACHE_HOME/iommuctl`, else `~/.cache/iommuctl`. Made
    /// when it is not there.
    ///
    /// # Errors
    /// When there is no home folder, or the folders cannot be made.
    pub fn open() -> Result<Self> {
        let path = Self::place()?;
        claim(&path)?;
        for folder in ["kernel", "out", "run", "tools", "logs"] {
            let folder = path.join(folder);
            std::fs::create_dir_all(&folder)
                .with_context(|| format!("cannot make {}", folder.display()))?;
        }
        // Paths in build trees are kept: a relative one would change its meaning with the working directory.
        let path = path
            .canonicalize()
            .with_context(|| format!("cannot resolve {}", path.display()))?;
        Ok(Self { path })
    }

    fn place() -> Result<PathBuf> {
        Ok(
            match (
                std::env::var_os(VARIABLE),
                std::env::var_os("XDG_CACHE_HOME"),
            ) {
                (Some(path), _) => PathBuf::from(path),
                (None, Some(path)) => PathBuf::from(path).join("iommuctl"),
                (None, None) => {
                    let home = std::env::var_os("HOME").with_context(|| {
                        format!("HOME is not set; set {VARIABLE} to a folder with 10 GB of space")
                    })?;
                    PathBuf::from(home).join(".cache/iommuctl")
                }
            },
        )
    }

    /// The folder, if it is there and ours.
    ///
    /// # Errors
    /// When it is there and somebody else's.
    pub fn existing() -> Result<Option<Self>> {
        let path = Self::place()?;
        let empty = std::fs::read_dir(&path).map_or(true, |mut entries| entries.next().is_none());
        if empty {
            return Ok(None);
        }
        Self::open().map(Some)
    }

    /// The folder itself.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this is what makes the folder ours.
    pub fn is_mark(&self, path: &Path) -> bool {
        path == self.path.join(MARK)
    }

    /// A path inside.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.path.join(name)
    }

    /// An empty log for the step `name`.
    ///
    /// # Errors
    /// When it cannot be created.
    pub fn log(&self, name: &str) -> Result<Log> {
        Log::create(self.join(format!("logs/{name}.log")))
    }

    /// Waits until no other run makes something here, then keeps others out until the lock is dropped.
    ///
    /// # Errors
    /// When the lock file cannot be opened or locked.
    pub fn lock(&self) -> Result<Lock> {
        let path = self.join("lock");
        let file = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&path)
            .with_context(|| format!("cannot open {}", path.display()))?;
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => return Ok(Lock { _file: file }),
            Err((file, Errno::EWOULDBLOCK)) => file,
            Err((_, errno)) => {
                return Err(errno).with_context(|| format!("cannot lock {}", path.display()))
            }
        };
        say(&format!(
            "   another run is using {}; waiting for it",
            self.path.display()
        ));
        let file = Flock::lock(file, FlockArg::LockExclusive)
            .map_err(|(_, errno)| errno)
            .with_context(|| format!("cannot lock {}", path.display()))?;
        Ok(Lock { _file: file })
    }
}

/// Makes the folder ours, unless somebody else keeps something in it: all of it is removed in the end.
fn claim(path: &Path) -> Result<()> {
    let mark = path.join(MARK);
    if mark.exists() {
        return Ok(());
    }
    std::fs::create_dir_all(path).with_context(|| format!("cannot make {}", path.display()))?;
    let mut entries =
        std::fs::read_dir(path).with_context(|| format!("cannot read {}", path.display()))?;
    if entries.next().is_some() {
        bail!(
            "{} is not empty, and the test bed did not make it; set {VARIABLE} to a folder of its own",
            path.display()
        );
    }
    std::fs::write(
        &mark,
        "Made by the test bed of iommuctl; `make clean-cache` removes this folder.\n",
    )
    .with_context(|| format!("cannot write {}", mark.display()))
}

/// Writes a small file of the cache, whole or not at all.
///
/// # Errors
/// When it cannot be written or renamed.
pub fn write(path: &Path, text: &str) -> Result<()> {
    let half = path.with_extension("half");
    std::fs::write(&half, text).with_context(|| format!("cannot write {}", half.display()))?;
    std::fs::rename(&half, path)
        .with_context(|| format!("cannot rename {} to {}", half.display(), path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_of_somebody_else_is_not_claimed() {
        let folder = tempfile::tempdir().unwrap();
        let ours = folder.path().join("ours");
        claim(&ours).unwrap();
        claim(&ours).unwrap();
        let theirs = folder.path().join("theirs");
        std::fs::create_dir_all(theirs.join("logs")).unwrap();
        let error = claim(&theirs).unwrap_err().to_string();
        assert!(error.contains("is not empty"), "{error}");
        assert!(!theirs.join(MARK).exists());
        assert!(claim(Path::new("/")).is_err());
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! An open directory of a kernel file system, from which names are looked up without going through the root again.
//!
//! For the attributes of sysfs, which are many and small. Each is opened, read once and closed: the kernel produces the whole
//! attribute at the first read (`Documentation/filesystems/sysfs.rst`), so a second read to find the end would be wasted.

use std::fs::File;
use std::io::Read;
use std::os::fd::{AsFd, OwnedFd};

use nix::dir::Dir;
use nix::fcntl::OFlag;
use nix::sys::stat::{fstat, SFlag};
use nix::unistd::read;

use super::{is_absent, join, open_beneath, text_of, KernFs, KernFsError, ATTRIBUTE_LIMIT};
use crate::sys::error::errno;

/// The size of the read buffer: larger than almost every attribute.
const BUFFER_SIZE: usize = 4096;

/// An open directory. The names given to its methods are relative to it.
#[derive(Debug)]
pub struct KernDir<'a> {
    tree: &'a KernFs,
    path: String,
    handle: OwnedFd,
}

impl<'a> KernDir<'a> {
    /// Opens the directory at `name` below `parent`, which is `path` in the tree.
    pub(super) fn open(
        tree: &'a KernFs,
        parent: impl AsFd,
        name: &str,
        path: String,
    ) -> Result<Option<Self>, KernFsError> {
        match open_beneath(parent, name, OFlag::O_PATH | OFlag::O_DIRECTORY) {
            Err(errno) if is_absent(errno) => Ok(None),
            Err(errno) => Err(tree.failed("open", &path, errno)),
            Ok(handle) => Ok(Some(Self { tree, path, handle })),
        }
    }

    /// The path of `name` in this directory, for messages.
    fn path_of(&self, name: &str) -> String {
        format!("{}/{name}", self.path)
    }

    /// The directory `name`; `None` if there is no such directory.
    pub fn dir(&self, name: &str) -> Result<Option<Self>, KernFsError> {
        Self::open(self.tree, &self.handle, name, self.path_of(name))
    }

    /// The text of the attribute `name`, like [`KernFs::text`].
    pub fn text(&self, name: &str) -> Result<Option<String>, KernFsError> {
        // O_NONBLOCK does not wait for the other end of a pipe; O_NOCTTY does not attach to a terminal.
        let flags = OFlag::O_RDONLY | OFlag::O_NONBLOCK | OFlag::O_NOCTTY;
        let failed = |verb, errno| self.tree.failed(verb, &self.path_of(name), errno);
        let file = match open_beneath(&self.handle, name, flags) {
            Err(errno) if is_absent(errno) => return Ok(None),
            other => other.map_err(|e| failed("open", e))?,
        };
        let mut room = [0; BUFFER_SIZE];
        let first = match read(&file, &mut room) {
            Err(errno) if is_absent(errno) => return Ok(None),
            // Only an empty or failed read needs a check of the file type: pipes and directories return no data.
            Ok(0) | Err(_) if !is_file(&file).map_err(|e| failed("inspect", e))? => {
                return Err(KernFsError::NotAFile(
                    self.tree.display(&self.path_of(name)),
                ));
            }
            other => other.map_err(|e| failed("read", e))?,
        };
        let short = room.get(..first).unwrap_or_default();
        let long;
        let bytes = match first < BUFFER_SIZE {
            true => short,
            false => {
                long = self.rest(short, file, name)?;
                &long
            }
        };
        let not_text = || KernFsError::NotText(self.tree.display(&self.path_of(name)));
        let text = text_of(bytes).ok_or_else(not_text)?;
        Ok((!text.is_empty()).then(|| text.to_owned()))
    }

    /// Reads the rest of `file` and returns it after `begin`.
    fn rest(&self, begin: &[u8], file: OwnedFd, name: &str) -> Result<Vec<u8>, KernFsError> {
        let mut bytes = begin.to_owned();
        let more = (ATTRIBUTE_LIMIT + 1).saturating_sub(begin.len()) as u64;
        if let Err(error) = File::from(file).take(more).read_to_end(&mut bytes) {
            let errno = errno(&error);
            return Err(self.tree.failed("read", &self.path_of(name), errno));
        }
        if bytes.len() > ATTRIBUTE_LIMIT {
            return Err(KernFsError::TooLong {
                path: self.tree.display(&self.path_of(name)),
                limit: ATTRIBUTE_LIMIT,
            });
        }
        Ok(bytes)
    }

    /// The target of the symbolic link `name`, like [`KernFs::link`].
    pub fn link(&self, name: &str) -> Result<Option<String>, KernFsError> {
        self.link_in(&self.handle, &self.path, name)
    }

    /// The last component of the target of the link `name`.
    pub fn link_name(&self, name: &str) -> Result<Option<String>, KernFsError> {
        let target = self.link(name)?;
        Ok(target.map(|t| t.rsplit('/').next().unwrap_or(&t).to_owned()))
    }

    fn link_in(
        &self,
        parent: impl AsFd,
        directory: &str,
        name: &str,
    ) -> Result<Option<String>, KernFsError> {
        let path = format!("{directory}/{name}");
        let Some(target) = self.tree.link_in(parent, name, &path)? else {
            return Ok(None);
        };
        let outside = || KernFsError::Outside(self.tree.display(&path));
        join(directory, &target).map(Some).ok_or_else(outside)
    }

    /// The targets of the links in the directory `name`, sorted by link name; entries that are not links are left out. `None`
    /// if there is no such directory.
    #[expect(clippy::type_complexity, reason = "a list of what each link said")]
    pub fn links(
        &self,
        name: &str,
    ) -> Result<Option<Vec<(String, Result<String, KernFsError>)>>, KernFsError> {
        let path = self.path_of(name);
        let fd = match open_beneath(&self.handle, name, OFlag::O_RDONLY | OFlag::O_DIRECTORY) {
            Err(errno) if is_absent(errno) => return Ok(None),
            other => other.map_err(|e| self.tree.failed("open", &path, e))?,
        };
        let listed = Dir::from_fd(fd).map_err(|e| self.tree.failed("list", &path, e));
        let mut directory = listed?;
        let names = self.tree.names_in(&mut directory, &path)?.into_iter();
        let links = names.filter_map(|link| {
            let target = self.link_in(&directory, &path, &link).transpose()?;
            Some((link, target))
        });
        Ok(Some(links.collect()))
    }
}

fn is_file(file: &OwnedFd) -> nix::Result<bool> {
    let kind = SFlag::from_bits_truncate(fstat(file)?.st_mode) & SFlag::S_IFMT;
    Ok(kind == SFlag::S_IFREG)
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::sys::kernfs::tests::tree;

    #[test]
    fn a_folder_says_what_the_tree_says() {
        let (dir, tree) = tree();
        let folder = tree.dir("a").unwrap().unwrap();
        let put = |text: &[u8]| fs::write(dir.path().join("a/f"), text).unwrap();
        let same = || {
            let said = |result: Result<Option<String>, KernFsError>| match result {
                Ok(text) => text.unwrap_or_default(),
                Err(error) => error.to_string(),
            };
            let (one, other) = (said(folder.text("f")), said(tree.text("a/f")));
            assert_eq!(one, other);
            one
        };
        assert_eq!(same(), "");
        put(b"DMA-FQ\n");
        assert_eq!(same(), "DMA-FQ");
        put(b"");
        assert_eq!(same(), "");
        for bytes in [&b"\x1b[2Jboo\n"[..], &[0xff, 0xfe]] {
            put(bytes);
            assert!(same().ends_with("something other than text; it was ignored"));
        }
        for length in [
            BUFFER_SIZE - 1,
            BUFFER_SIZE,
            BUFFER_SIZE + 1,
            ATTRIBUTE_LIMIT,
        ] {
            put(&vec![b'x'; length]);
            assert_eq!(same().len(), length);
        }
        put(&vec![b'x'; ATTRIBUTE_LIMIT + 1]);
        assert!(same().contains("is longer than"));
        fs::remove_file(dir.path().join("a/f")).unwrap();
        symlink("/etc/passwd", dir.path().join("a/f")).unwrap();
        assert!(same().contains("out of the tree"));
        fs::remove_file(dir.path().join("a/f")).unwrap();
        fs::create_dir(dir.path().join("a/f")).unwrap();
        assert!(same().contains("is not a regular file"));
    }

    #[test]
    fn links_are_resolved_inside_and_refused_outside() {
        let (dir, tree) = tree();
        let link = |target: &str, at: &str| symlink(target, dir.path().join(at)).unwrap();
        link("../../c/d", "a/b/inside");
        link("../../../etc", "a/b/outside");
        fs::write(dir.path().join("a/b/file"), "").unwrap();
        let folder = tree.dir("a").unwrap().unwrap();
        let links = folder.links("b").unwrap().unwrap();
        let names: Vec<_> = links.iter().map(|(name, _)| name.as_str()).collect();
        assert_eq!(names, ["inside", "outside"]);
        assert_eq!(links[0].1.as_deref().unwrap(), "c/d");
        assert!(matches!(links[1].1, Err(KernFsError::Outside(_))));
        assert!(folder.links("none").unwrap().is_none());
        let inner = folder.dir("b").unwrap().unwrap();
        assert_eq!(inner.link_name("inside").unwrap().as_deref(), Some("d"));
        assert_eq!(inner.link("file").unwrap(), None);
        assert!(folder.dir("none").unwrap().is_none());
        assert!(matches!(
            tree.dir("a/b/inside"),
            Err(KernFsError::Outside(_)) | Ok(None)
        ));
    }
}

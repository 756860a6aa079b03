// SPDX-License-Identifier: GPL-2.0-only
//! Other processes: their open files, and the SSH connection of the user.

use std::net::IpAddr;

use super::Proc;
use crate::sys::kernfs::KernFsError;

/// How many ancestors are examined. A login through sudo and tmux has about five.
const MAX_PARENTS: usize = 64;

/// A file that a process has open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OpenFile {
    /// The process.
    pub pid: u32,
    /// Its name, at most 15 characters.
    pub command: String,
    /// The path of the file, in the mount namespace of the process.
    pub path: String,
}

/// An SSH connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// The address of the other side.
    pub client: IpAddr,
    /// The address of this machine that the other side has connected to.
    pub server: IpAddr,
}

impl Proc {
    /// The open files whose path satisfies `wanted`, of all processes that this one may inspect.
    ///
    /// # Errors
    ///
    /// [`KernFsError`], if the processes cannot be listed. A process that ends meanwhile, or may not be inspected, is left out.
    pub fn open_files(&self, wanted: impl Fn(&str) -> bool) -> Result<Vec<OpenFile>, KernFsError> {
        let names = self.tree.names(".")?.unwrap_or_default();
        let mut found = Vec::new();
        for pid in names.iter().filter_map(|name| name.parse::<u32>().ok()) {
            let Ok(Some(files)) = self.tree.names(&format!("{pid}/fd")) else {
                continue;
            };
            for file in files {
                let target = self.tree.link_text(&format!("{pid}/fd/{file}"));
                if let Some(path) = target.ok().flatten().filter(|p| wanted(p)) {
                    let command = self.command(pid);
                    found.push(OpenFile { pid, command, path });
                }
            }
        }
        Ok(found)
    }

    fn command(&self, pid: u32) -> String {
        let text = self.tree.text(&format!("{pid}/comm")).ok().flatten();
        text.unwrap_or_else(|| "unknown".to_owned())
    }

    /// The SSH connection of the user; `None` if there is none, or it cannot be found out.
    ///
    /// sudo removes `SSH_CONNECTION` from the environment, but not from its own. So the initial environments of this process
    /// and its ancestors are examined.
    #[must_use]
    pub fn ssh_connection(&self) -> Option<Connection> {
        let mut directory = self.me().ok()?;
        for _ in 0..MAX_PARENTS {
            if let Some(found) = self.connection_in(&directory) {
                return Some(found);
            }
            let lines = self.lines(&format!("{directory}/status")).ok()?;
            let parent = lines.iter().find_map(|line| line.strip_prefix("PPid:"))?;
            let parent: u32 = parent.trim().parse().ok()?;
            if parent == 0 {
                return None;
            }
            directory = parent.to_string();
        }
        None
    }

    fn connection_in(&self, directory: &str) -> Option<Connection> {
        let path = format!("{directory}/environ");
        let bytes = self.tree.bytes(&path, super::LARGE_FILE_LIMIT).ok()??;
        let mut variables = bytes.split(|b| *b == 0);
        variables.find_map(|v| connection(std::str::from_utf8(v).ok()?))
    }
}

/// `SSH_CONNECTION=client port server port` (ssh(1)). `SSH_CLIENT`, the older one, does not name the server.
fn connection(variable: &str) -> Option<Connection> {
    let mut words = variable.strip_prefix("SSH_CONNECTION=")?.split(' ');
    // A link-local address is followed by its interface: fe80::1%eth0.
    let address = |text: &str| text.split('%').next()?.parse().ok();
    let client = address(words.next()?)?;
    let server = address(words.nth(1)?)?;
    Some(Connection { client, server })
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn connection_is_found_behind_sudo() {
        let dir = tempfile::tempdir().unwrap();
        let process = |pid: &str, parent: &str, environment: &str| {
            let at = dir.path().join(pid);
            fs::create_dir_all(&at).unwrap();
            fs::write(at.join("environ"), environment).unwrap();
            fs::write(at.join("status"), format!("Name:\tx\nPPid:\t{parent}\n")).unwrap();
        };
        process("30", "20", "PATH=/bin\0");
        process(
            "20",
            "10",
            "A=b\0SSH_CONNECTION=192.0.2.9 50000 192.0.2.1 22\0",
        );
        process("10", "0", "");
        symlink("30", dir.path().join("self")).unwrap();
        let proc = Proc::open(Some(dir.path())).unwrap();
        let found = proc.ssh_connection().unwrap();
        assert_eq!(found.client.to_string(), "192.0.2.9");
        assert_eq!(found.server.to_string(), "192.0.2.1");
        fs::write(dir.path().join("20/environ"), "SSH_CONNECTION=nonsense\0").unwrap();
        assert_eq!(proc.ssh_connection(), None);
    }

    #[test]
    fn open_files_are_named_with_their_process() {
        let dir = tempfile::tempdir().unwrap();
        let at = dir.path().join("77/fd");
        fs::create_dir_all(&at).unwrap();
        fs::write(dir.path().join("77/comm"), "qemu-system-x86\n").unwrap();
        symlink("/dev/vfio/3", at.join("5")).unwrap();
        symlink("socket:[1]", at.join("6")).unwrap();
        let proc = Proc::open(Some(dir.path())).unwrap();
        let found = proc.open_files(|path| path == "/dev/vfio/3").unwrap();
        assert_eq!(found.len(), 1);
        assert_eq!(
            (found[0].pid, found[0].command.as_str()),
            (77, "qemu-system-x86")
        );
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The small Debian in the cache: made once, from packages, and the source of every tool that is used.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{bail, Context as _, Result};

use crate::host::build::cache::Cache;
use crate::host::build::command::{as_root, Log};
use crate::host::build::host_packages::{Bootstrap, KEYRING};
use crate::host::build::kernel::Kernel;
use crate::host::build::progress::step;

/// The Debian release the root is made of; its backports suite has the kernel.
pub const SUITE: &str = "trixie";
/// The suite that has the kernel and QEMU.
pub const BACKPORTS: &str = "trixie-backports";

/// A release of Debian that a root is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Release {
    /// The one that everything else is made of, too.
    Stable,
    /// The next one: other compilers, and a kernel that was built with them.
    Testing,
}

impl Release {
    /// The folder of its root in the cache, and the name of its kernel there.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stable => "root",
            Self::Testing => "root-testing",
        }
    }

    fn suite(self) -> &'static str {
        match self {
            Self::Stable => SUITE,
            Self::Testing => "testing",
        }
    }

    /// The suite that has its newest kernel.
    pub fn newest(self) -> &'static str {
        match self {
            Self::Stable => BACKPORTS,
            Self::Testing => self.suite(),
        }
    }

    fn sources(self, mirror: &str) -> Vec<String> {
        match self {
            Self::Stable => sources(mirror).to_vec(),
            // Signed, but perhaps old, as on a mirror that lags behind: any version will do.
            Self::Testing => {
                vec![line(mirror, self.suite()).replace('[', "[check-valid-until=no ")]
            }
        }
    }

    /// What is installed there: packages, and the suite that is preferred for them.
    fn tools(self) -> Vec<(&'static [&'static str], Option<&'static str>)> {
        match self {
            Self::Stable => vec![(&FROM_SUITE, None), (&FROM_BACKPORTS, Some(BACKPORTS))],
            // Its machines have the emulator of the other root.
            Self::Testing => vec![(&FROM_SUITE, None), (&["libelf-dev"], None)],
        }
    }

    /// The list of these, by which a root is known to be whole.
    fn list(self) -> String {
        let tools = self.tools();
        let names: Vec<&str> = tools
            .iter()
            .flat_map(|(names, _)| *names)
            .copied()
            .collect();
        names.join(" ")
    }
}

/// Another mirror than Debian's own, for those who have one near.
const MIRROR_VARIABLE: &str = "IOMMUCTL_MIRROR";
const MIRROR: &str = "http://deb.debian.org/debian";
const SECURITY: &str = "http://deb.debian.org/debian-security";

/// From the suite itself: what a kernel and its modules are built with, and what goes into the initramfs.
const FROM_SUITE: [&str; 16] = [
    "acpica-tools",
    "bc",
    "bindgen",
    "bison",
    "busybox-static",
    "flex",
    "gcc",
    "kmod",
    "libc6-dev",
    "libssl-dev",
    "make",
    "pahole",
    "patch",
    "pci.ids",
    "python3",
    "xz-utils",
];
/// From backports. The kernel's own libelf is the newer one, so libelf-dev has to be.
const FROM_BACKPORTS: [&str; 2] = ["libelf-dev", "qemu-system-x86"];

/// What a system needs to boot, beside its kernel. dracut-core is dracut without what makes it the system's own, which does
/// not go with initramfs-tools; grub2-common has update-grub, and installs no boot loader.
const SYSTEM: [&str; 8] = [
    "dracut-core",
    "grub2-common",
    "initramfs-tools",
    "kmod",
    "pci.ids",
    "systemd",
    "systemd-sysv",
    "udev",
];

/// What a system needs to boot, and what our packages depend on.
const FOR_PACKAGES: [&str; 18] = [
    "bc",
    "bindgen",
    "bison",
    "dkms",
    "flex",
    "initramfs-tools",
    "kmod",
    "libssl-dev",
    "mokutil",
    "openssl",
    "pci.ids",
    "rust-src",
    "rustc",
    "systemd",
    "systemd-sysv",
    "udev",
    "xz-utils",
    "zstd",
];

/// What packages are built and checked with.
const BUILDER: [&str; 13] = [
    "bash-completion",
    "build-essential",
    "cargo",
    "debhelper",
    "dh-dkms",
    "libarchive-tools",
    "lintian",
    "makepkg",
    "pacman-package-manager",
    "rpm",
    "rpmlint",
    "rustc",
    "shellcheck",
];

/// What a machine of a fleet needs: to boot, and what Ansible needs of it.
const FLEET: [&str; 9] = [
    "initramfs-tools",
    "kmod",
    "openssh-server",
    "pci.ids",
    "python3",
    "python3-apt",
    "systemd",
    "systemd-sysv",
    "udev",
];
/// What looks after a fleet.
const CONTROLLER: [&str; 2] = ["ansible-core", "openssh-client"];

/// Runs in a mount namespace of its own, so that nothing stays mounted however the command ends.
const ENTER: &str = "root=$1; shift; \
    mount -t proc proc \"$root/proc\" && mount --rbind /dev \"$root/dev\" && exec chroot \"$root\" \"$@\"";

/// Written last: has the list of tools that are installed.
const MARK: &str = "etc/iommuctl-ready";

/// What comes just before the program that is run inside.
pub const LAST_WORD: &str = "PATH=/usr/sbin:/usr/bin:/sbin:/bin";

/// The root.
#[derive(Clone, Debug)]
pub struct Chroot {
    path: PathBuf,
    release: Release,
}

impl Chroot {
    /// The root of `cache` with what modules are built with, made when it is not there.
    ///
    /// # Errors
    /// When a package cannot be fetched or installed: the message has the log's path.
    pub fn ensure(
        cache: &Cache,
        release: Release,
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let at = |path| Self { path, release };
        let name = release.name();
        let root = at(cache.join(name));
        match std::fs::read_to_string(root.path.join(MARK)) {
            Ok(list) if list == release.list() => return Ok(root),
            Ok(_) => {
                let log = cache.log(name)?;
                step("installing more tools in the root", || {
                    root.install_tools(&log)
                })?;
                return Ok(root);
            }
            Err(_) => {}
        }
        if root.path.exists() {
            // A root of ours gets its name when it is complete, so this one is somebody else's, perhaps in use.
            bail!(
                "{} is there, but the test bed did not make it, and will not touch it; \
                 move it away, or set {} to another folder",
                root.path.display(),
                crate::host::build::cache::VARIABLE
            );
        }
        let program = bootstrap()?;
        let log = cache.log(name)?;
        // Made beside, renamed when complete: an interrupted run leaves nothing that looks finished.
        let half = at(cache.join(format!("{name}.half")));
        log.run(
            as_root("rm")
                .args(["-rf", "--one-file-system"])
                .arg(&half.path),
        )?;
        step(
            &format!(
                "making a Debian {} root in {}",
                release.suite(),
                root.path.display()
            ),
            || half.bootstrap(program, &log),
        )?;
        step("installing compilers and what else is needed there", || {
            half.install_tools(&log)
        })?;
        log.run(as_root("mv").arg(&half.path).arg(&root.path))?;
        Ok(root)
    }

    /// A system that boots, with the kernel of this version; made when it is not there, or has another kernel.
    ///
    /// # Errors
    /// When a package cannot be fetched or installed: the message has the log's path.
    pub fn ensure_system(
        cache: &Cache,
        version: &str,
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let kernel = format!("linux-image-amd64={version}");
        let packages = [(&SYSTEM[..], None), (&[kernel.as_str()], Some(BACKPORTS))];
        let title = "making a Debian system that boots";
        Self::ensure_with(cache, "system", title, &packages, bootstrap)
    }

    /// Debian stable with what packages are built with.
    ///
    /// # Errors
    /// When a package cannot be fetched or installed: the message has the log's path.
    pub fn ensure_builder(
        cache: &Cache,
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let title = "making a Debian to build packages in";
        Self::ensure_with(cache, "builder", title, &[(&BUILDER, None)], bootstrap)
    }

    /// A system that boots `kernel`, and to which our packages can be given without a network: all they depend on is there.
    ///
    /// # Errors
    /// When a package cannot be fetched or installed: the message has the log's path.
    pub fn ensure_for_packages(
        cache: &Cache,
        kernel: &Kernel,
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let kernel = kernel.packages();
        let kernel: Vec<&str> = kernel.iter().map(String::as_str).collect();
        let packages = [(&FOR_PACKAGES[..], None), (&kernel[..], Some(BACKPORTS))];
        let title = "making a Debian system for the packages, with an older kernel";
        Self::ensure_with(cache, "packaged", title, &packages, bootstrap)
    }

    /// A machine of a fleet, with the kernel of this version.
    ///
    /// # Errors
    /// As [`Chroot::ensure_system`].
    pub fn ensure_fleet(
        cache: &Cache,
        version: &str,
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let kernel = format!("linux-image-amd64={version}");
        let packages = [(&FLEET[..], None), (&[kernel.as_str()], Some(BACKPORTS))];
        let title = "making a Debian system for Ansible to look after";
        Self::ensure_with(cache, "fleet", title, &packages, bootstrap)
    }

    /// What looks after a fleet.
    ///
    /// # Errors
    /// As [`Chroot::ensure_system`].
    pub fn ensure_controller(
        cache: &Cache,
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let title = "making a Debian with Ansible";
        Self::ensure_with(
            cache,
            "controller",
            title,
            &[(&CONTROLLER, None)],
            bootstrap,
        )
    }

    /// A root in `folder` of the cache with these packages, each from its suite; made anew when the list is another.
    fn ensure_with(
        cache: &Cache,
        folder: &str,
        title: &str,
        packages: &[(&[&str], Option<&str>)],
        bootstrap: impl FnOnce() -> Result<Bootstrap>,
    ) -> Result<Self> {
        let at = |path| Self {
            path,
            release: Release::Stable,
        };
        let ready = at(cache.join(folder));
        let names: Vec<&str> = packages
            .iter()
            .flat_map(|(names, _)| *names)
            .copied()
            .collect();
        let wanted = names.join(" ");
        match std::fs::read_to_string(ready.path.join(MARK)) {
            Ok(found) if found == wanted => return Ok(ready),
            _ => {}
        }
        let program = bootstrap()?;
        let log = cache.log(folder)?;
        let half = at(cache.join(format!("{folder}.half")));
        for old in [&half, &ready] {
            log.run(
                as_root("rm")
                    .args(["-rf", "--one-file-system"])
                    .arg(&old.path),
            )?;
        }
        step(title, || {
            half.bootstrap(program, &log)?;
            for (names, suite) in packages {
                half.install(&log, names, *suite)?;
            }
            let mark = format!("printf %s \"$1\" > /{MARK}");
            log.run(&mut half.command("sh", ["-c", &mark, "sh", &wanted]))
        })?;
        log.run(as_root("mv").arg(&half.path).arg(&ready.path))?;
        Ok(ready)
    }

    /// Another root at `path`, for a copy of this one.
    #[must_use]
    pub fn beside(&self, path: PathBuf) -> Self {
        Self {
            path,
            release: self.release,
        }
    }

    /// The release it is made of.
    pub fn release(&self) -> Release {
        self.release
    }

    fn bootstrap(&self, program: Bootstrap, log: &Log) -> Result<()> {
        let mirror = mirror();
        let suite = self.release.suite();
        let sources = self.release.sources(&mirror);
        match program {
            Bootstrap::Mmdebstrap => {
                let mut command = as_root("mmdebstrap");
                command.args([
                    "--mode=root",
                    "--variant=apt",
                    "--include=debian-archive-keyring",
                    suite,
                ]);
                log.run(command.arg(&self.path).args(&sources))?;
            }
            Bootstrap::Debootstrap => {
                let mut command = as_root("debootstrap");
                command.args([
                    "--variant=minbase",
                    "--include=debian-archive-keyring,ca-certificates",
                ]);
                log.run(
                    command
                        .arg(format!("--keyring={KEYRING}"))
                        .arg(suite)
                        .arg(&self.path)
                        .arg(&mirror),
                )?;
                let list = sources.join("\n");
                let write = "printf '%s\\n' \"$1\" > /etc/apt/sources.list";
                log.run(&mut self.command("sh", ["-c", write, "sh", &list]))?;
            }
        }
        log.run(&mut self.command("apt-get", ["update"]))
    }

    fn install_tools(&self, log: &Log) -> Result<()> {
        for (packages, suite) in self.release.tools() {
            self.install(log, packages, suite)?;
        }
        let mark = format!("printf %s \"$1\" > /{MARK}");
        log.run(&mut self.command("sh", ["-c", &mark, "sh", &self.release.list()]))
    }

    /// Installs packages, preferring those of `suite` when one is given; `name=version` asks for one version.
    /// The suite itself is never given: it would win over its own security updates.
    ///
    /// # Errors
    /// When apt-get fails.
    pub fn install<S: AsRef<OsStr>>(
        &self,
        log: &Log,
        packages: &[S],
        suite: Option<&str>,
    ) -> Result<()> {
        self.refresh_resolver(log)?;
        let mut command = self.command("apt-get", ["install", "-y", "--no-install-recommends"]);
        if let Some(suite) = suite {
            command.args(["-t", suite]);
        }
        log.run(command.args(packages))
    }

    /// The host's resolver may have changed since the root was made.
    ///
    /// # Errors
    /// When the file cannot be copied.
    pub fn refresh_resolver(&self, log: &Log) -> Result<()> {
        let target = self.path.join("etc/resolv.conf");
        if !Path::new("/etc/resolv.conf").exists() {
            return Ok(());
        }
        log.run(as_root("cp").args(["-L", "/etc/resolv.conf"]).arg(target))
    }

    /// A command inside the root, as root, with `/proc` and `/dev`.
    pub fn command<I, S>(&self, program: &str, arguments: I) -> Command
    where
        I: IntoIterator<Item = S>,
        S: AsRef<OsStr>,
    {
        let mut command = as_root("unshare");
        command.args([
            "--mount",
            "--propagation",
            "private",
            "--",
            "sh",
            "-c",
            ENTER,
            "sh",
        ]);
        command.arg(&self.path);
        command.args([
            "/usr/bin/env",
            "-i",
            "LC_ALL=C.UTF-8",
            "HOME=/root",
            "DEBIAN_FRONTEND=noninteractive",
        ]);
        command.arg(LAST_WORD);
        command.arg(program).args(arguments);
        command
    }

    /// A program of the root, run outside it and without the rights of root: its own dynamic loader is given its own
    /// libraries, so the host's do not matter.
    pub fn tool(&self, program: &str) -> Command {
        let mut command = Command::new(self.path.join("usr/lib64/ld-linux-x86-64.so.2"));
        command
            .arg("--library-path")
            .arg(self.path.join("usr/lib/x86_64-linux-gnu"));
        command.arg(self.path.join(program));
        command
    }

    /// Where the root is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The path of a file of the root, given as seen from inside.
    pub fn outside(&self, inside: &str) -> PathBuf {
        self.path.join(inside.trim_start_matches('/'))
    }

    /// Reads a file of the root, given as seen from inside.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(&self, inside: &str) -> Result<String> {
        let path = self.outside(inside);
        std::fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))
    }
}

/// The archive packages come from.
fn mirror() -> String {
    std::env::var(MIRROR_VARIABLE).unwrap_or_else(|_| MIRROR.into())
}

/// The line of a `sources.list` for one suite of the archive.
pub fn source(suite: &str) -> String {
    line(&mirror(), suite)
}

fn line(archive: &str, suite: &str) -> String {
    format!("deb [signed-by={KEYRING}] {archive} {suite} main")
}

fn sources(mirror: &str) -> [String; 4] {
    [
        line(mirror, SUITE),
        line(mirror, &format!("{SUITE}-updates")),
        line(mirror, BACKPORTS),
        line(SECURITY, &format!("{SUITE}-security")),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tool_runs_with_the_loader_of_the_root() {
        let root = Chroot {
            path: "/cache/root".into(),
            release: Release::Stable,
        };
        let tool = root.tool("usr/bin/xz");
        assert_eq!(
            tool.get_program(),
            "/cache/root/usr/lib64/ld-linux-x86-64.so.2"
        );
        let arguments: Vec<_> = tool.get_args().collect();
        assert_eq!(
            arguments.last().copied(),
            Some(OsStr::new("/cache/root/usr/bin/xz"))
        );
    }

    #[test]
    fn backports_are_among_the_sources() {
        assert!(sources(MIRROR)
            .iter()
            .any(|line| line.ends_with("trixie-backports main")));
    }
}

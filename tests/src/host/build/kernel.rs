// SPDX-License-Identifier: GPL-2.0-only
//! Which kernel: the newest that the distribution has for a release, found out when it runs, never pinned.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{bail, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::cache::Cache;
use crate::host::build::chroot::{Chroot, Release, SUITE};
use crate::host::build::command::{as_root, Log};
use crate::host::build::progress::{say, step};

/// How long an answer about the newest kernel is good for.
const FRESH: Duration = Duration::from_secs(24 * 3600);
/// The package that depends on the newest kernel's headers: says which that is.
const META: &str = "linux-headers-amd64";

/// One kernel release of the distribution, unpacked in the cache.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Kernel {
    /// What `uname -r` says there, such as `7.3.4+deb13-amd64`.
    pub release: String,
    /// The version of its packages, such as `7.3.4-1~bpo13+1`.
    pub version: String,
    /// What it runs on.
    pub arch: Arch,
}

impl Kernel {
    /// The newest kernel for the release of `root`; asks the archive at most once a day, and stays on the cached one when the
    /// archive does not answer.
    ///
    /// # Errors
    /// When there is neither a cached kernel nor an archive, or a package cannot be fetched.
    pub fn ensure(cache: &Cache, root: &Chroot) -> Result<Self> {
        let state = state(cache, root.release());
        let cached = Self::cached(cache, &state)?;
        if let (Some(kernel), true) = (&cached, fresh(&state)) {
            return Ok(kernel.clone());
        }
        let log = cache.log("kernel")?;
        let suite = root.release().newest();
        let newest = step(
            &format!("asking Debian for the newest kernel of {suite}"),
            || {
                refresh(root, &log)?;
                Self::newest(root, &log, suite)
            },
        );
        let kernel = match (newest, cached.clone()) {
            (Ok(newest), _) => newest,
            (Err(error), Some(cached)) => {
                say(&format!(
                    "   Debian's archive does not answer; staying on {}\n   ({error:#})",
                    cached.release
                ));
                return Ok(cached);
            }
            (Err(error), None) => return Err(error),
        };
        if cached.as_ref() != Some(&kernel) {
            // Trees of older releases are 2 GB each, and nothing here goes back to them.
            log.run(as_root("rm").arg("-rf").arg(root.outside("/build")))?;
        }
        kernel.fetch(cache, root, &log)?;
        let text = format!("{}\n{}\n", kernel.release, kernel.version);
        crate::host::build::cache::write(&state, &text)?;
        Ok(kernel)
    }

    /// The kernel of the last run, when all of it is still there.
    fn cached(cache: &Cache, path: &Path) -> Result<Option<Self>> {
        if !path.exists() {
            return Ok(None);
        }
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        let mut lines = text.lines().map(str::to_owned);
        let (Some(release), Some(version)) = (lines.next(), lines.next()) else {
            return Ok(None);
        };
        let kernel = Self {
            release,
            version,
            arch: Arch::X86_64,
        };
        Ok(kernel.image(cache).exists().then_some(kernel))
    }

    /// The kernel of the stable release itself.
    ///
    /// # Errors
    /// When the archive has none.
    pub fn stable(root: &Chroot, log: &Log) -> Result<Self> {
        Self::newest(root, log, SUITE)
    }

    fn newest(root: &Chroot, log: &Log, suite: &str) -> Result<Self> {
        let text = show(root, log, META, suite)?;
        let release = depends(&text)
            .find_map(|package| package.strip_prefix("linux-headers-").map(str::to_owned))
            .with_context(|| {
                format!("{META} of {suite} depends on no linux-headers-* package:\n{text}")
            })?;
        let headers = show(root, log, &format!("linux-headers-{release}"), suite)?;
        let version = field(&headers, "Version")
            .with_context(|| format!("linux-headers-{release} has no Version:\n{headers}"))?;
        Ok(Self {
            release,
            version: version.to_owned(),
            arch: Arch::X86_64,
        })
    }

    /// The newest kernel of the newest other series that backports still has with its source: what is upgraded from.
    ///
    /// # Errors
    /// When there is none.
    pub fn previous(root: &Chroot, log: &Log, newest: &Self) -> Result<Self> {
        let names = log.capture(&mut root.command("apt-cache", ["pkgnames", "linux-headers-"]))?;
        let sources = log.capture(&mut root.command("apt-cache", ["pkgnames", "linux-source-"]))?;
        let end = format!("-{}", newest.arch.debian());
        let mut releases: Vec<Self> = names
            .lines()
            .filter_map(|name| name.strip_prefix("linux-headers-"))
            .filter(|release| release.ends_with(&end) && release.contains('+'))
            .filter(|release| release.matches('-').count() == 1)
            .map(|release| Self {
                release: release.to_owned(),
                version: String::new(),
                arch: newest.arch,
            })
            .filter(|kernel| kernel.series() != newest.series())
            .filter(|kernel| {
                let source = format!("linux-source-{}", kernel.series());
                sources.lines().any(|name| name == source)
            })
            .collect();
        releases.sort_by_key(|kernel| {
            let numbers = kernel.upstream().split('.').map(str::parse::<u32>);
            numbers.filter_map(Result::ok).collect::<Vec<_>>()
        });
        let mut kernel = releases.pop().with_context(|| {
            let suite = root.release().newest();
            format!("{suite} has no kernel of another series than {}, with its source: there is nothing to upgrade from", newest.release)
        })?;
        let headers = format!("linux-headers-{}", kernel.release);
        let entry = show(root, log, &headers, root.release().newest())?;
        let version = field(&entry, "Version").context("the older kernel has no Version")?;
        kernel.version = version.to_owned();
        Ok(kernel)
    }

    /// The packages of the image, the headers and the source, with their version.
    pub fn packages(&self) -> [String; 3] {
        let names = [
            format!("linux-image-{}", self.release),
            format!("linux-headers-{}", self.release),
            format!("linux-source-{}", self.series()),
        ];
        names.map(|name| format!("{name}={}", self.version))
    }

    /// Another build of the same version: `rt`, `cloud`, `16k`.
    ///
    /// # Errors
    /// When the release has no name of an architecture at its end.
    pub fn variant(&self, name: &str) -> Result<Self> {
        let (start, architecture) = self.split()?;
        let release = match name {
            // The size of a page comes last.
            "16k" => format!("{start}-{architecture}-{name}"),
            _ => format!("{start}-{name}-{architecture}"),
        };
        Ok(Self {
            release,
            ..self.clone()
        })
    }

    /// The same version for `arch`.
    ///
    /// # Errors
    /// As [`Kernel::variant`].
    pub fn on(&self, arch: Arch) -> Result<Self> {
        let (start, _) = self.split()?;
        Ok(Self {
            release: format!("{start}-{}", arch.debian()),
            version: self.version.clone(),
            arch,
        })
    }

    /// `7.3.4+deb13` and `amd64` of `7.3.4+deb13-amd64`.
    fn split(&self) -> Result<(&str, &str)> {
        self.release
            .rsplit_once('-')
            .with_context(|| format!("kernel {} does not end with an architecture", self.release))
    }

    /// Fetches and unpacks the image, its modules, the headers and the source.
    ///
    /// # Errors
    /// When a package cannot be fetched: the message has the log's path.
    pub fn fetch(&self, cache: &Cache, root: &Chroot, log: &Log) -> Result<()> {
        let release = &self.release;
        let [_, headers, source] = self.packages();
        // The headers of another architecture depend on a compiler that runs there. They are unpacked with the image.
        let packages = match self.is_foreign() {
            true => vec![source],
            false => vec![headers, source],
        };
        step(&format!("installing {}", packages.join(" and ")), || {
            root.install(log, &packages, Some(root.release().newest()))
        })?;
        if self.image(cache).exists() {
            return Ok(());
        }
        step(
            &format!("fetching the kernel image and modules of {release}"),
            || self.unpack(cache, root, log),
        )
    }

    fn unpack(&self, cache: &Cache, root: &Chroot, log: &Log) -> Result<()> {
        // Newer image packages only depend on the ones with the files; older ones have the files themselves.
        let image = format!("linux-image-{}", self.release);
        let text = show(root, log, &image, root.release().newest())?;
        let pinned = |name: &str| format!("{name}:{}={}", self.arch.debian(), self.version);
        let mut packages = vec![pinned(&image)];
        if self.is_foreign() {
            packages.push(pinned(&format!("linux-headers-{}", self.release)));
        }
        let parts = depends(&text).filter(|name| {
            let part = name.starts_with("linux-binary-") || name.starts_with("linux-modules-");
            part && name.ends_with(&self.release)
        });
        packages.extend(parts.map(pinned));
        let script = "rm -rf /build/unpack && mkdir -p /build/unpack/debs /build/unpack/files && \
             cd /build/unpack/debs && apt-get download \"$@\" && \
             for deb in *.deb; do dpkg-deb -x \"$deb\" ../files || exit 1; done && \
             { [ -e ../files/lib ] || ln -s usr/lib ../files/lib; } && \
             depmod -b /build/unpack/files \"$release\"";
        let script = format!("release={}; {script}", self.release);
        let mut arguments = vec!["-c".to_owned(), script, "sh".to_owned()];
        arguments.extend(packages);
        log.run(&mut root.command("sh", &arguments))?;
        let target = self.folder(cache);
        log.run(as_root("rm").arg("-rf").arg(&target))?;
        log.run(
            as_root("chmod")
                .args(["-R", "a+rX"])
                .arg(root.outside("/build/unpack/files")),
        )?;
        log.run(
            as_root("mv")
                .arg(root.outside("/build/unpack/files"))
                .arg(&target),
        )?;
        log.run(as_root("rm").arg("-rf").arg(root.outside("/build/unpack")))?;
        if !self.image(cache).exists() {
            bail!(
                "the packages of {image} have no kernel image; looked for {}",
                self.image(cache).display()
            );
        }
        Ok(())
    }

    /// `7.3.4` of `7.3.4+deb13-amd64`.
    pub fn upstream(&self) -> &str {
        let end = self.release.find(['+', '-']).unwrap_or(self.release.len());
        &self.release[..end]
    }

    /// `7.3` of `7.3.4+deb13-amd64`: the name of the source package.
    fn series(&self) -> String {
        self.release
            .splitn(3, '.')
            .take(2)
            .collect::<Vec<_>>()
            .join(".")
    }

    fn folder(&self, cache: &Cache) -> PathBuf {
        cache.join("kernel").join(&self.release)
    }

    /// The kernel image.
    pub fn image(&self, cache: &Cache) -> PathBuf {
        let inside = self.modules(cache).join("vmlinuz");
        if inside.exists() {
            return inside;
        }
        self.folder(cache)
            .join(format!("boot/vmlinuz-{}", self.release))
    }

    /// The folder of its modules: has `modules.dep`.
    pub fn modules(&self, cache: &Cache) -> PathBuf {
        let folder = self.folder(cache);
        let merged = folder.join("usr/lib/modules").join(&self.release);
        if merged.exists() {
            return merged;
        }
        folder.join("lib/modules").join(&self.release)
    }

    /// The headers package's folder, as seen from inside the root: where it is installed there.
    pub fn headers(&self) -> String {
        format!("/usr/src/linux-headers-{}", self.release)
    }

    /// The headers package's folder, as seen from outside the root.
    pub fn headers_outside(&self, cache: &Cache, root: &Chroot) -> PathBuf {
        let inside = self.headers();
        match self.is_foreign() {
            true => self.folder(cache).join(inside.trim_start_matches('/')),
            false => root.outside(&inside),
        }
    }

    /// Whether its packages cannot be installed in the root.
    pub fn is_foreign(&self) -> bool {
        self.arch != Arch::X86_64
    }

    /// The source package's archive, as seen from inside the root.
    pub fn source(&self) -> String {
        format!("/usr/src/linux-source-{}.tar.xz", self.series())
    }
}

fn state(cache: &Cache, release: Release) -> PathBuf {
    let name = match release {
        Release::Stable => "kernel/current",
        Release::Testing => "kernel/testing",
    };
    cache.join(name)
}

/// Asks the archive what there is.
fn refresh(root: &Chroot, log: &Log) -> Result<()> {
    root.refresh_resolver(log)?;
    let strict = [
        "-o",
        "APT::Update::Error-Mode=any",
        "-o",
        "Acquire::Retries=2",
        "update",
    ];
    log.run(&mut root.command("apt-get", strict))
}

fn fresh(path: &Path) -> bool {
    let written = std::fs::metadata(path).and_then(|data| data.modified());
    written.is_ok_and(|time| time.elapsed().is_ok_and(|age| age < FRESH))
}

/// The archive's entry of the version of `package` that `suite` has.
fn show(root: &Chroot, log: &Log, package: &str, suite: &str) -> Result<String> {
    let release = format!("APT::Default-Release={suite}");
    let arguments = ["-o", &release, "show", "--no-all-versions", package];
    log.capture(&mut root.command("apt-cache", arguments))
}

fn field<'a>(entry: &'a str, name: &str) -> Option<&'a str> {
    let prefix = format!("{name}: ");
    entry.lines().find_map(|line| line.strip_prefix(&prefix))
}

/// The names of the packages an entry depends on, without versions and alternatives.
fn depends(entry: &str) -> impl Iterator<Item = &str> {
    let list = field(entry, "Depends").unwrap_or_default();
    list.split(',')
        .filter_map(|one| one.split_whitespace().next())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ENTRY: &str = "Package: linux-image-7.3.4+deb13-amd64\nVersion: 7.3.4-1~bpo13+1\n\
        Depends: dracut | initramfs-tools (>= 0.120), linux-binary-7.3.4+deb13-amd64 (= 7.3.4-1~bpo13+1), \
        linux-modules-7.3.4+deb13-amd64 (= 7.3.4-1~bpo13+1)\n";

    #[test]
    fn an_entry_is_read() {
        assert_eq!(field(ENTRY, "Version"), Some("7.3.4-1~bpo13+1"));
        let names: Vec<_> = depends(ENTRY).collect();
        assert_eq!(
            names,
            [
                "dracut",
                "linux-binary-7.3.4+deb13-amd64",
                "linux-modules-7.3.4+deb13-amd64"
            ]
        );
    }

    #[test]
    fn a_variant_is_named_before_the_architecture() {
        let kernel = Kernel {
            release: "7.3.4+deb13-amd64".into(),
            version: "7.3.4-1~bpo13+1".into(),
            arch: Arch::X86_64,
        };
        let variant = kernel.variant("rt").unwrap();
        assert_eq!(variant.release, "7.3.4+deb13-rt-amd64");
        assert_eq!(variant.series(), "7.3");
        let arm = kernel.on(Arch::Arm64).unwrap();
        assert_eq!(arm.release, "7.3.4+deb13-arm64");
        assert!(arm.is_foreign() && !variant.is_foreign());
    }

    #[test]
    fn the_source_package_has_two_numbers() {
        let kernel = Kernel {
            release: "7.3.4+deb13-amd64".into(),
            version: "7.3.4-1~bpo13+1".into(),
            arch: Arch::X86_64,
        };
        assert_eq!(kernel.source(), "/usr/src/linux-source-7.3.tar.xz");
    }
}

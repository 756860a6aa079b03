// SPDX-License-Identifier: GPL-2.0-only
//! The life of our packages in a real Debian system: installed by apt, the kernel and the packages upgraded, removed and
//! purged, with reboots between.
//!
//! What takes the packages minutes of compiling, the Rust metadata of each kernel, is made by the packages themselves, in a
//! copy of the system that is not booted, where the processor is not emulated; the booted one finds it in the cache.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};

use crate::host::build::cache::{self, Cache};
use crate::host::build::chroot::{Chroot, BACKPORTS};
use crate::host::build::command::{as_root, Log};
use crate::host::build::host_packages;
use crate::host::build::kernel::Kernel;
use crate::host::build::progress::{say, step};
use crate::host::build::toolchain::Toolchain;
use crate::host::build::userspace::checkout;
use crate::host::packages::deb::Packages;
use crate::host::systems::image::{tell, Image};
use crate::host::systems::system::{put, CHECKS};
use crate::host::vm::runner::Finished;

/// Size of the disk; sparse.
const SIZE: &str = "10G";

/// Where everything that the script needs is on the disk.
const FOLDER: &str = "root/packages";

/// One boot: its name, which `tests/system/packages.sh` knows; the kernel; words of the command line.
type Boot = (&'static str, Which, &'static [&'static str]);

const LAZY: &[&str] = &["iommu.strict=0"];

/// The packages come, the kernel and they are upgraded, and they go.
const LIFE: [Boot; 6] = [
    ("installed", Which::Older, LAZY),
    ("settled", Which::Older, LAZY),
    ("upgraded", Which::Newer, LAZY),
    // What Secure Boot asks for, where the key is not enrolled.
    (
        "unsigned",
        Which::Newer,
        &["iommu.strict=0", "module.sig_enforce=1"],
    ),
    ("no-iommu", Which::Newer, &["intel_iommu=off"]),
    ("removed", Which::Newer, LAZY),
];

/// Spin locks sleep.
const REALTIME: [Boot; 1] = [("realtime", Which::Realtime, LAZY)];

/// Only iommuctl, where there are neither headers nor a compiler.
const BARE: [Boot; 1] = [("bare", Which::Newer, LAZY)];

/// Files of the checkout, where they go, and their modes.
const FILES: [(&str, &str, &str); 4] = [
    CHECKS,
    ("tests/system/packages.sh", "usr/local/sbin/packages", "755"),
    (
        "tests/system/packages.service",
        "etc/systemd/system/packages.service",
        "644",
    ),
    (
        "tests/system/packages.yaml",
        "root/packages/policy.yaml",
        "644",
    ),
];

/// One of the kernels.
#[derive(Clone, Copy)]
enum Which {
    Older,
    Newer,
    /// The newer one's build with `PREEMPT_RT`.
    Realtime,
}

/// The kernels of one run.
struct Kernels {
    older: Kernel,
    newer: Kernel,
    realtime: Kernel,
}

impl Kernels {
    fn get(&self, which: Which) -> &Kernel {
        match which {
            Which::Older => &self.older,
            Which::Newer => &self.newer,
            Which::Realtime => &self.realtime,
        }
    }

    fn all(&self) -> [&Kernel; 3] {
        [&self.older, &self.newer, &self.realtime]
    }
}

/// Runs the boots, in order. Returns what went wrong, as text for people; `listen` gets what each reported.
///
/// # Errors
/// When a package is missing or does not build, or the machine broke every time.
pub fn run(mut listen: impl FnMut(&Finished)) -> Result<Option<String>> {
    let toolchain = Toolchain::ensure()?;
    let log = toolchain.cache.log("packaged")?;
    let kernels = Kernels {
        older: Kernel::previous(&toolchain.root, &log, &toolchain.kernel)?,
        realtime: toolchain.kernel.variant("rt")?,
        newer: toolchain.kernel.clone(),
    };
    say(&format!(
        "   from kernel {} to {}",
        kernels.older.release, kernels.newer.release
    ));
    let stories: [(&[Boot], Make); 3] = [(&LIFE, life), (&REALTIME, realtime), (&BARE, bare)];
    for (boots, make) in stories {
        let image = make(&log, toolchain.clone(), &kernels)?;
        if let Some(failure) = boot(&log, image, &kernels, boots, &mut listen)? {
            return Ok(Some(failure));
        }
    }
    Ok(None)
}

/// Boots a system again and again, until something fails.
fn boot(
    log: &Log,
    image: Image,
    kernels: &Kernels,
    boots: &[Boot],
    listen: &mut impl FnMut(&Finished),
) -> Result<Option<String>> {
    let newer = format!("iommuctl.newer={}", kernels.newer.release);
    for (name, which, words) in boots {
        for file in ["vmlinuz", "initrd.img"] {
            let inside = format!("/boot/{file}-{}", kernels.get(*which).release);
            image.take(log, &inside, file)?;
        }
        let words = [words, &[newer.as_str()][..]].concat();
        let finished = image.boot(name, "vmlinuz", "initrd.img", &words)?;
        listen(&finished);
        if let Some(failure) = finished.failure(name) {
            // The next boot would have gone on where this one ended.
            image.keep();
            return Ok(Some(failure));
        }
    }
    Ok(None)
}

/// Makes a system on its disk, with everything that the script needs.
type Make = fn(&Log, Toolchain, &Kernels) -> Result<Image>;

/// The system that the packages come to while it runs.
fn life(log: &Log, toolchain: Toolchain, kernels: &Kernels) -> Result<Image> {
    with_debs(log, toolchain, kernels, |tree| {
        download(log, tree, &kernels.newer)?;
        unpack(log, tree, &kernels.older)
    })
}

/// The system that has the packages, and gets another kernel, before it is booted.
fn realtime(log: &Log, toolchain: Toolchain, kernels: &Kernels) -> Result<Image> {
    with_debs(log, toolchain, kernels, |tree| {
        unpack(log, tree, &kernels.older)?;
        unpack(log, tree, &kernels.realtime)?;
        install(log, tree)?;
        let policy = "cp /root/packages/policy.yaml /etc/iommuctl/policy.d/50-site.yaml";
        log.run(&mut tree.command("sh", ["-c", policy]))?;
        tree.install(log, &kernels.realtime.packages(), Some(BACKPORTS))
    })
}

/// The system that has no more than it takes to boot.
fn bare(log: &Log, toolchain: Toolchain, kernels: &Kernels) -> Result<Image> {
    let cache = toolchain.cache.clone();
    let _lock = cache.lock()?;
    let debs = Packages::ensure(&cache)?;
    let version = &kernels.newer.version;
    let base = Chroot::ensure_system(&cache, version, || host_packages::ensure(&cache))?;
    make(log, toolchain, &base, &debs, |_| Ok(()))
}

/// The system with what the packages depend on, and the metadata of the kernels.
fn with_debs(
    log: &Log,
    toolchain: Toolchain,
    kernels: &Kernels,
    with: impl FnOnce(&Chroot) -> Result<()>,
) -> Result<Image> {
    let cache = toolchain.cache.clone();
    let _lock = cache.lock()?;
    let debs = Packages::ensure(&cache)?;
    let older = &kernels.older;
    let base = Chroot::ensure_for_packages(&cache, older, || host_packages::ensure(&cache))?;
    let metadata = metadata(&cache, log, &base, &debs, kernels)?;
    make(log, toolchain, &base, &debs, |tree| {
        let archive = format!("{FOLDER}/metadata.tar");
        put(log, &metadata, tree.path(), &archive, "644")?;
        with(tree)
    })
}

fn make(
    log: &Log,
    toolchain: Toolchain,
    base: &Chroot,
    debs: &Packages,
    with: impl FnOnce(&Chroot) -> Result<()>,
) -> Result<Image> {
    let checkout = checkout()?;
    let image = Image::new(toolchain, "packaged")?;
    let tree = base.beside(image.path("tree"));
    let made = step("putting the packages into a copy of a system", || {
        log.run(as_root("cp").arg("-a").arg(base.path()).arg(tree.path()))?;
        for (from, to, mode) in FILES {
            put(log, &checkout.join(from), tree.path(), to, mode)?;
        }
        deliver(log, &tree, debs, &checkout)?;
        with(&tree)?;
        log.run(&mut tree.command("systemctl", ["enable", "packages"]))?;
        // It has our name, and is not of our packages.
        log.run(&mut tree.command("rm", ["/etc/iommuctl-ready"]))?;
        image.fill(log, &tree, SIZE, &[])
    });
    remove(log, tree.path())?;
    made.map(|()| image)
}

/// Puts the metadata of a kernel where the package looks for it.
fn unpack(log: &Log, tree: &Chroot, kernel: &Kernel) -> Result<()> {
    let archive = format!("/{FOLDER}/metadata.tar");
    let one = format!("./var/cache/iommu-live/{}", kernel.release);
    log.run(&mut tree.command("tar", ["-xf", &archive, "-C", "/", &one]))
}

/// Installs the packages where nothing is booted.
fn install(log: &Log, tree: &Chroot) -> Result<()> {
    let install = "apt-get install -y --no-install-recommends /root/packages/*.deb";
    log.run(&mut tree.command("sh", ["-c", install]))
}

/// The same, with everything that was reported.
///
/// # Errors
/// As [`run`].
pub fn try_out() -> Result<bool> {
    let failures = run(tell)?;
    say(failures.as_deref().unwrap_or("   all good"));
    Ok(failures.is_none())
}

/// Puts the packages into `tree`, and what they may have been before.
fn deliver(log: &Log, tree: &Chroot, debs: &Packages, checkout: &Path) -> Result<()> {
    for deb in [&debs.iommuctl, &debs.module] {
        let name = deb.file_name().unwrap_or_default().to_string_lossy();
        put(log, deb, tree.path(), &format!("{FOLDER}/{name}"), "644")?;
    }
    let script = "tests/system/previous.sh";
    put(
        log,
        &checkout.join(script),
        tree.path(),
        "root/previous.sh",
        "755",
    )?;
    log.run(&mut tree.command("/root/previous.sh", [format!("/{FOLDER}")]))
}

/// Has apt fetch the newer kernel, for the day there is no network.
fn download(log: &Log, tree: &Chroot, newer: &Kernel) -> Result<()> {
    tree.refresh_resolver(log)?;
    let get = [
        "install",
        "-y",
        "--no-install-recommends",
        "--download-only",
        "-t",
        BACKPORTS,
    ];
    log.run(tree.command("apt-get", get).args(newer.packages()))
}

/// An archive of the Rust metadata of all kernels, made by the packages when they or the kernels are others than the last
/// time.
fn metadata(
    cache: &Cache,
    log: &Log,
    base: &Chroot,
    debs: &Packages,
    kernels: &Kernels,
) -> Result<PathBuf> {
    let archive = cache.join("out/metadata.tar");
    let mark = cache.join("out/metadata.of");
    let mut hasher = DefaultHasher::new();
    for name in ["build", "kernel.sh"] {
        let path = checkout()?.join("packaging/dkms").join(name);
        let text =
            std::fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        text.hash(&mut hasher);
    }
    for kernel in kernels.all() {
        (&kernel.release, &kernel.version).hash(&mut hasher);
    }
    let wanted = format!("{:016x}", hasher.finish());
    if archive.exists() && std::fs::read_to_string(&mark).is_ok_and(|old| old == wanted) {
        return Ok(archive);
    }
    let tree = base.beside(cache.join("packaged.trial"));
    remove(log, tree.path())?;
    step(
        "installing the packages, then other kernels, in a system that is not booted (some minutes, once)",
        || {
            log.run(as_root("cp").arg("-a").arg(base.path()).arg(tree.path()))?;
            deliver(log, &tree, debs, &checkout()?)?;
            install(log, &tree)?;
            tree.install(log, &kernels.newer.packages(), Some(BACKPORTS))?;
            tree.install(log, &kernels.realtime.packages(), Some(BACKPORTS))?;
            // The packages' own word that it works: the modules are there.
            for kernel in kernels.all() {
                let there = format!("find /usr/lib/modules/{}/updates -name 'iommu_live.ko*' | grep .", kernel.release);
                log.run(&mut tree.command("sh", ["-c", &there]))?;
            }
            let pack = "cd / && tar -cf /root/metadata.tar ./var/cache/iommu-live/*";
            log.run(&mut tree.command("sh", ["-c", pack]))?;
            let half = cache.join("out/metadata.half");
            log.run(as_root("cp").arg(tree.outside("/root/metadata.tar")).arg(&half))?;
            log.run(as_root("chmod").arg("644").arg(&half))?;
            std::fs::rename(&half, &archive)
                .with_context(|| format!("cannot rename {}", half.display()))
        },
    )?;
    remove(log, tree.path())?;
    cache::write(&mark, &wanted)?;
    Ok(archive)
}

/// Root's files, which nobody else could remove.
fn remove(log: &Log, tree: &Path) -> Result<()> {
    log.run(
        as_root("rm")
            .args(["-rf", "--one-file-system", "--"])
            .arg(tree),
    )
}

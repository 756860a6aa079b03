// SPDX-License-Identifier: GPL-2.0-only
//! Kernels that watch themselves, and one for figures: the distribution's source and configuration, less what a virtual
//! machine has no use for, plus checks or a benchmark, plus hold points in the unmap path.
//!
//! Each takes a quarter of an hour or more to build, once per release of the distribution's kernel.

use std::path::Path;

use anyhow::{bail, Context as _, Result};

use crate::host::build::cache::Cache;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, jobs, Log};
use crate::host::build::kernel::Kernel;
use crate::host::build::progress::step;
use crate::host::build::userspace::checkout;

const PATCH: &str = "hold-points.patch";
/// What the configuration keeps beside what is built in: `localmodconfig` drops every other module.
const MODULES: [&str; 6] = [
    "nvme",
    "nvme_core",
    "e1000",
    "vfio_pci",
    "vfio_iommu_type1",
    "ext4",
];

/// What a kernel watches. They exclude each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Watch {
    /// Locks, memory, timers, allocations: lockdep, KASAN, debug objects, kmemleak, fault injection.
    Checks,
    /// Data races: KCSAN.
    Races,
    /// Memory, where spin locks sleep: `PREEMPT_RT`, with KASAN and kmemleak.
    Realtime,
    /// Nothing, so that figures mean something; it has the kernel's own benchmark of maps.
    Nothing,
}

impl Watch {
    /// Those that watch something.
    pub const SOMETHING: [Self; 3] = [Self::Checks, Self::Races, Self::Realtime];

    /// Of `CONFIG_LOCALVERSION`, and of its folder.
    fn name(self) -> &'static str {
        match self {
            Self::Checks => "checks",
            Self::Races => "races",
            Self::Realtime => "realtime",
            Self::Nothing => "figures",
        }
    }

    /// The parts of its configuration in `tests/debug/`; a later one overrides an earlier one.
    fn parts(self) -> &'static [&'static str] {
        match self {
            Self::Checks => &["common.config", "checks.config"],
            Self::Races => &["common.config", "races.config"],
            Self::Realtime => &["common.config", "realtime.config"],
            Self::Nothing => &["common.config", "figures.config"],
        }
    }
}

/// The kernel, and how modules for it are built.
#[derive(Clone, Debug)]
pub struct DebugKernel {
    /// The kernel, in its place in the cache.
    pub kernel: Kernel,
    /// Its tree, as seen from inside the root.
    pub tree: String,
    /// `LLVM=…`: Rust and KASAN together need clang, of the version that rustc's own code generator has.
    pub llvm: String,
    watch: Watch,
}

impl DebugKernel {
    /// The debug kernel of the release of `stock` that watches `watch`, made when it is not there.
    ///
    /// # Errors
    /// When a package is missing or the build fails: the message has the log's path.
    pub fn ensure(cache: &Cache, root: &Chroot, stock: &Kernel, watch: Watch) -> Result<Self> {
        let log = cache.log("debug-kernel")?;
        let base = stock.upstream();
        let name = watch.name();
        let debug = Self {
            kernel: Kernel {
                release: format!("{base}-iommuctl-{name}"),
                version: format!("{}, for {name}", stock.version),
                arch: stock.arch,
            },
            tree: format!("/debug/{base}/{name}/linux"),
            llvm: llvm(root)?,
            watch,
        };
        let folder = checkout()?.join("tests/debug");
        let read = |name: &str| {
            let path = folder.join(name);
            std::fs::read_to_string(&path)
                .with_context(|| format!("cannot read {}", path.display()))
        };
        let files = [PATCH, "configure.sh"].iter().chain(watch.parts());
        let files: Result<String> = files.map(|name| read(name)).collect();
        let mark = format!("/debug/{base}/{name}/ready");
        let wanted = format!("{}\n{}", stock.version, files?);
        if root.read(&mark).is_ok_and(|made| made == wanted) && debug.kernel.image(cache).exists() {
            return Ok(debug);
        }
        debug.unpack(root, stock, &log)?;
        debug.configure(root, stock, &log, &folder)?;
        step(
            &format!("building a kernel for {name} (a quarter of an hour or more, once per kernel release)"),
            || debug.make(root, &log, &[&jobs(), "bzImage", "modules"]),
        )?;
        step("installing it in the cache", || {
            debug.install(cache, root, &log)
        })?;
        let write = ["-c", "printf %s \"$1\" > \"$2\"", "sh", &wanted, &mark];
        log.run(&mut root.command("sh", write))?;
        Ok(debug)
    }

    fn make(&self, root: &Chroot, log: &Log, arguments: &[&str]) -> Result<()> {
        let common = ["-C", &self.tree, &self.llvm];
        log.run(root.command("make", common).args(arguments))
    }

    /// What was built stays, and make knows what is still good.
    fn unpack(&self, root: &Chroot, stock: &Kernel, log: &Log) -> Result<()> {
        step(
            "installing clang, and unpacking the kernel's source once more",
            || {
                let version = self.llvm.trim_start_matches("LLVM=-");
                let tools = ["clang", "lld", "llvm"].map(|name| format!("{name}-{version}"));
                root.install(log, &tools, None)?;
                let script = "[ -e \"$1/Makefile\" ] || { mkdir -p \"$1\" && tar -xf \"$2\" -C \"$1\" --strip-components=1; }";
                log.run(&mut root.command("sh", ["-c", script, "sh", &self.tree, &stock.source()]))
            },
        )
    }

    fn configure(&self, root: &Chroot, stock: &Kernel, log: &Log, folder: &Path) -> Result<()> {
        step("configuring it", || {
            let inside = format!("{}/../test", self.tree);
            let outside = root.outside(&inside);
            log.run(as_root("mkdir").arg("-p").arg(&outside))?;
            log.run(as_root("cp").arg("-r").arg(folder.join(".")).arg(&outside))?;
            let script = "cd \"$1\" && shift && exec ../test/configure.sh \"$@\"";
            let config = format!("{}/.config", stock.headers());
            let arguments = [
                "-c",
                script,
                "sh",
                &self.tree,
                &stock.source(),
                &config,
                &self.llvm,
                &self.watch.parts().join(" "),
            ];
            log.run(root.command("sh", arguments).args(MODULES))
        })?;
        let made = root.read(&format!("{}/.config", self.tree))?;
        for name in self.watch.parts() {
            let config = std::fs::read_to_string(folder.join(name))
                .with_context(|| format!("cannot read {name}"))?;
            for line in config.lines().filter(|line| line.ends_with("=y")) {
                if !made.lines().any(|one| one == line) {
                    bail!("the debug kernel's configuration does not take {line} of {name}");
                }
            }
        }
        Ok(())
    }

    /// Where [`Kernel`] looks for an image and modules.
    fn install(&self, cache: &Cache, root: &Chroot, log: &Log) -> Result<()> {
        let staging = "/build/install";
        log.run(&mut root.command("rm", ["-rf", staging]))?;
        let path = format!("INSTALL_MOD_PATH={staging}");
        self.make(root, log, &[&path, "modules_install"])?;
        let script = "release=$2; d=$3/lib/modules/$release; \
             cp \"$1/arch/x86/boot/bzImage\" \"$d/vmlinuz\" && rm -f \"$d/build\" && chmod -R a+rX \"$3\"";
        log.run(&mut root.command(
            "sh",
            [
                "-c",
                script,
                "sh",
                &self.tree,
                &self.kernel.release,
                staging,
            ],
        ))?;
        let target = cache.join("kernel").join(&self.kernel.release);
        log.run(as_root("rm").arg("-rf").arg(&target))?;
        log.run(as_root("mv").arg(root.outside(staging)).arg(&target))
    }
}

/// `LLVM=-19`, when rustc says that its LLVM is 19.1.7.
fn llvm(root: &Chroot) -> Result<String> {
    let output = root
        .command("rustc", ["--version", "--verbose"])
        .output()
        .context("cannot run rustc in the cache's root")?;
    let text = String::from_utf8_lossy(&output.stdout);
    let version = text
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "));
    let major = version.and_then(|version| version.split('.').next());
    let major = major.with_context(|| format!("rustc does not say which LLVM it has:\n{text}"))?;
    Ok(format!("LLVM=-{major}"))
}

// SPDX-License-Identifier: GPL-2.0-only
//! A real Debian system: systemd, its own kernel and initramfs, booted from a disk. What the policy does at boot cannot be
//! seen anywhere else.
//!
//! The system is made once, without us, and kept in the cache. For each run a copy on a disk image gets the files of
//! `packaging/`, where its package would put them, and its initramfs is made again.

use std::path::Path;
use std::time::Duration;

use anyhow::Result;

use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, Log};
use crate::host::build::host_packages;
use crate::host::build::progress::{say, step};
use crate::host::build::toolchain::Toolchain;
use crate::host::build::userspace::{checkout, Programs};
use crate::host::systems::image::{tell, Image};
use crate::host::vm::runner::Finished;
use crate::report::Report;

/// Size of the disk; sparse.
const SIZE: &str = "3000M";

/// A link to the newest kernel.
const KERNEL: &str = "vmlinuz";
/// Each initramfs, by what makes it: the name of the file. The first is a link to the newest.
const INITRAMFS_TOOLS: &str = "initrd.img";
const DRACUT: &str = "initrd-dracut.img";

/// One boot of it.
#[derive(Debug)]
pub struct Scenario {
    /// Its name, which `tests/system/report.sh` knows.
    pub name: &'static str,
    /// Its initramfs.
    initramfs: &'static str,
    /// Words of the kernel command line.
    pub words: &'static [&'static str],
}

/// Every boot, in order.
pub const SCENARIOS: [Scenario; 6] = [
    Scenario {
        name: "boots",
        initramfs: INITRAMFS_TOOLS,
        words: &["iommu.strict=0"],
    },
    Scenario {
        name: "boots-by-dracut",
        initramfs: DRACUT,
        words: &["iommu.strict=0"],
    },
    Scenario {
        name: "switched-off",
        initramfs: DRACUT,
        words: &["iommu.strict=0", "iommuctl.policy=off"],
    },
    Scenario {
        name: "broken",
        initramfs: INITRAMFS_TOOLS,
        words: &[
            "iommu.strict=0",
            "iommuctl.policy=/etc/iommuctl/broken.yaml",
        ],
    },
    Scenario {
        name: "hotplug",
        initramfs: INITRAMFS_TOOLS,
        words: &[
            "iommu.strict=1",
            "iommuctl.policy=/etc/iommuctl/hotplug.yaml",
        ],
    },
    Scenario {
        name: "lockdown",
        initramfs: INITRAMFS_TOOLS,
        words: &[
            "iommu.strict=0",
            "modules_load=iommu_live",
            "iommuctl.policy=/etc/iommuctl/lockdown.yaml",
        ],
    },
];

/// What is looked at in the system without booting it: its name.
const DEFAULTS: &str = "defaults";

/// What both scripts that look at a booted system source.
pub const CHECKS: (&str, &str, &str) = (
    "tests/system/checks.sh",
    "usr/local/lib/report/checks.sh",
    "644",
);

/// Files of the checkout, where they go, and their modes.
const FILES: [(&str, &str, &str); 19] = [
    (
        "packaging/systemd/iommuctl-policy.service",
        "usr/lib/systemd/system/iommuctl-policy.service",
        "644",
    ),
    (
        "packaging/systemd/iommuctl-audit.service",
        "usr/lib/systemd/system/iommuctl-audit.service",
        "644",
    ),
    (
        "packaging/systemd/iommuctl-audit.socket",
        "usr/lib/systemd/system/iommuctl-audit.socket",
        "644",
    ),
    (
        "packaging/systemd/iommuctl-hotplug@.service",
        "usr/lib/systemd/system/iommuctl-hotplug@.service",
        "644",
    ),
    (
        "packaging/systemd/iommuctl-lockdown.service",
        "usr/lib/systemd/system/iommuctl-lockdown.service",
        "644",
    ),
    (
        "packaging/udev/81-iommuctl-lockdown.rules",
        "usr/lib/udev/rules.d/81-iommuctl-lockdown.rules",
        "644",
    ),
    (
        "packaging/udev/80-iommuctl.rules",
        "usr/lib/udev/rules.d/80-iommuctl.rules",
        "644",
    ),
    (
        "packaging/initramfs-tools/hooks/iommuctl",
        "usr/share/initramfs-tools/hooks/iommuctl",
        "755",
    ),
    (
        "packaging/initramfs-tools/scripts/init-top/iommuctl",
        "usr/share/initramfs-tools/scripts/init-top/iommuctl",
        "755",
    ),
    (
        "packaging/dracut/50iommuctl/module-setup.sh",
        "usr/lib/dracut/modules.d/50iommuctl/module-setup.sh",
        "755",
    ),
    (
        "packaging/dracut/50iommuctl/iommuctl.sh",
        "usr/lib/dracut/modules.d/50iommuctl/iommuctl.sh",
        "755",
    ),
    (
        "tests/system/boots.yaml",
        "etc/iommuctl/policy.d/50-test.yaml",
        "644",
    ),
    (
        "tests/system/broken.yaml",
        "etc/iommuctl/broken.yaml",
        "644",
    ),
    (
        "tests/system/hotplug.yaml",
        "etc/iommuctl/hotplug.yaml",
        "644",
    ),
    (
        "tests/system/lockdown.yaml",
        "etc/iommuctl/lockdown.yaml",
        "644",
    ),
    ("tests/system/defaults.sh", "root/defaults", "755"),
    ("tests/system/report.sh", "usr/local/sbin/report", "755"),
    CHECKS,
    (
        "tests/system/report.service",
        "etc/systemd/system/report.service",
        "644",
    ),
];

/// The system with everything of ours, ready to boot.
#[derive(Debug)]
pub struct System {
    image: Image,
    /// What the helpers of the distribution did in it.
    defaults: Report,
}

impl System {
    /// Makes it.
    ///
    /// # Errors
    /// When a package cannot be fetched, or a file of ours is missing.
    pub fn make(toolchain: Toolchain) -> Result<Self> {
        let module = toolchain.module()?;
        let lock = toolchain.cache.lock()?;
        let base = Chroot::ensure_system(&toolchain.cache, &toolchain.kernel.version, || {
            host_packages::ensure(&toolchain.cache)
        })?;
        let checkout = checkout()?;
        let programs = Programs::build(&toolchain.cache, &checkout, toolchain.kernel.arch)?;
        let log = toolchain.cache.log("system-image")?;
        let release = toolchain.kernel.release.clone();
        let image = Image::new(toolchain, "system")?;
        let tree = base.beside(image.path("tree"));
        let mut system = Self {
            image,
            defaults: Report::default(),
        };
        let made = step("installing ours into a copy of the system", || {
            log.run(as_root("cp").arg("-a").arg(base.path()).arg(tree.path()))?;
            install(&log, &checkout, &programs.iommuctl, tree.path())?;
            let modules = tree.path().join("usr/lib/modules").join(&release);
            log.run(
                as_root("install")
                    .args(["-D", "-m", "644"])
                    .arg(&module)
                    .arg(modules.join("updates/iommu_live.ko")),
            )?;
            log.run(&mut tree.command("depmod", [&release]))?;
            log.run(&mut tree.command(
                "systemctl",
                ["enable", "iommuctl-policy", "iommuctl-audit", "report"],
            ))?;
            log.run(&mut tree.command("update-initramfs", ["-u", "-k", "all"]))?;
            // For any machine, as the other one: what this one has is not what the virtual one has.
            let image = format!("/boot/{DRACUT}");
            let dracut = ["--no-hostonly", "--kver", &release, &image];
            log.run(&mut tree.command("dracut", dracut))?;
            let boot = format!("boot/{DRACUT}");
            let files = [
                (KERNEL, KERNEL),
                (INITRAMFS_TOOLS, INITRAMFS_TOOLS),
                (boot.as_str(), DRACUT),
            ];
            system.image.fill(&log, &tree, SIZE, &files)?;
            // Last, for what it leaves in the tree is not to be on the disk.
            let said = log.capture(&mut tree.command("/root/defaults", [""; 0]))?;
            system.defaults = Report::parse(&said);
            Ok(())
        });
        // Root's files, which the folder's own removal could not touch.
        log.run(
            as_root("rm")
                .args(["-rf", "--one-file-system", "--"])
                .arg(tree.path()),
        )?;
        made?;
        drop(lock);
        Ok(system)
    }

    /// Boots it for one scenario. The disk goes on as it is: what one boot writes, the next finds.
    ///
    /// # Errors
    /// When QEMU cannot be started, or the machine broke every time.
    pub fn boot(&self, scenario: &Scenario) -> Result<Finished> {
        let (name, initramfs) = (scenario.name, scenario.initramfs);
        self.image.boot(name, KERNEL, initramfs, scenario.words)
    }

    /// Keeps its folder, with the logs: something failed.
    pub fn keep(self) {
        self.image.keep();
    }
}

fn install(log: &Log, checkout: &Path, program: &Path, tree: &Path) -> Result<()> {
    put(log, program, tree, "usr/sbin/iommuctl", "755")?;
    for (from, to, mode) in FILES {
        put(log, &checkout.join(from), tree, to, mode)?;
    }
    Ok(())
}

/// Puts a file into `tree`, as root's.
///
/// # Errors
/// When it is not there.
pub fn put(log: &Log, from: &Path, tree: &Path, to: &str, mode: &str) -> Result<()> {
    log.run(
        as_root("install")
            .args(["-D", "-o", "root", "-g", "root", "-m", mode])
            .arg(from)
            .arg(tree.join(to)),
    )
}

/// Boots every scenario, or those named. Returns what went wrong, as text for people; `listen` gets what each reported.
///
/// # Errors
/// As [`System::make`] and [`System::boot`].
pub fn run(names: &[String], mut listen: impl FnMut(&Finished)) -> Result<Option<String>> {
    let system = System::make(Toolchain::ensure()?)?;
    let mut failures = String::new();
    if names.is_empty() || names.iter().any(|n| n == DEFAULTS) {
        let finished = Finished {
            report: system.defaults.clone(),
            cut_short: None,
            console: system.image.toolchain().cache.join("logs/system-image.log"),
            took: Duration::ZERO,
        };
        listen(&finished);
        failures.push_str(&finished.failure(DEFAULTS).unwrap_or_default());
    }
    for scenario in &SCENARIOS {
        if !names.is_empty() && !names.iter().any(|n| n == scenario.name) {
            continue;
        }
        let finished = system.boot(scenario)?;
        listen(&finished);
        failures.push_str(&finished.failure(scenario.name).unwrap_or_default());
    }
    if failures.is_empty() {
        return Ok(None);
    }
    system.keep();
    Ok(Some(failures))
}

/// The same, with everything that was reported: for work on the scenarios.
///
/// # Errors
/// As [`run`].
pub fn try_out(names: &[String]) -> Result<bool> {
    let failures = run(names, tell)?;
    say(failures.as_deref().unwrap_or("   all good"));
    Ok(failures.is_none())
}

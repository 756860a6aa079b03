// SPDX-License-Identifier: GPL-2.0-only
//! A real Debian system: systemd, its own kernel and initramfs, booted from a disk. What the policy does at boot cannot be
//! seen anywhere else.
//!
//! The system is made once, without us, and kept in the cache. For each run a copy on a disk image gets the files of
//! `packaging/`, where its package would put them, and its initramfs is made again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use super::chroot::Chroot;
use super::command::{as_root, Log};
use super::machine::external_table;
use super::monitor;
use super::packages;
use super::progress::{say, seconds, step};
use super::qemu::{Accelerator, Device, Machine};
use super::userspace::{checkout, Programs};
use super::vm::{self, Finished};
use super::workshop::Workshop;
use crate::report::{Line, Report};

/// Size of the disk image in MiB; sparse.
const IMAGE: &str = "3000M";
/// The label of its file system.
const LABEL: &str = "iommuctl-root";

/// Each initramfs, by what makes it: the name of the file.
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

/// Files of the checkout, where they go, and their modes.
const FILES: [(&str, &str, &str); 18] = [
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
    (
        "tests/system/report.service",
        "etc/systemd/system/report.service",
        "644",
    ),
];

/// The system with everything of ours, ready to boot.
#[derive(Debug)]
pub struct System {
    shop: Workshop,
    /// Its disk, kernel and initramfs are in here; goes with it.
    folder: tempfile::TempDir,
    /// What the helpers of the distribution did in it.
    defaults: Report,
}

impl System {
    /// Makes it.
    ///
    /// # Errors
    /// When a package cannot be fetched, or a file of ours is missing.
    pub fn make(shop: Workshop) -> Result<Self> {
        let module = shop.module()?;
        let lock = shop.cache.lock()?;
        let base = Chroot::ensure_system(&shop.cache, &shop.kernel.version, || {
            packages::ensure(&shop.cache)
        })?;
        let checkout = checkout()?;
        let programs = Programs::build(&shop.cache, &checkout)?;
        let folder = tempfile::Builder::new()
            .prefix("system-")
            .tempdir_in(shop.cache.join("run"))
            .context("cannot make a folder for the system")?;
        let log = shop.cache.log("system-image")?;
        let tree = base.beside(folder.path().join("tree"));
        let mut system = Self {
            shop,
            folder,
            defaults: Report::default(),
        };
        let made = step("installing ours into a copy of the system", || {
            log.run(as_root("cp").arg("-a").arg(base.path()).arg(tree.path()))?;
            install(&log, &checkout, &programs.iommuctl, tree.path())?;
            let release = system.shop.kernel.release.clone();
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
            system.image(&log, &tree)?;
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

    /// The disk, and beside it what boots it.
    fn image(&self, log: &Log, tree: &Chroot) -> Result<()> {
        // The first two are links to the newest.
        let boot = format!("boot/{DRACUT}");
        for (file, name) in [
            ("vmlinuz", "vmlinuz"),
            (INITRAMFS_TOOLS, INITRAMFS_TOOLS),
            (&boot, DRACUT),
        ] {
            let copy = self.folder.path().join(name);
            log.run(
                as_root("cp")
                    .arg("-L")
                    .arg(tree.path().join(file))
                    .arg(&copy),
            )?;
            log.run(as_root("chmod").arg("644").arg(&copy))?;
        }
        let image = self.folder.path().join("root.img");
        log.run(
            as_root("mkfs.ext4")
                .args(["-q", "-F", "-L", LABEL, "-d"])
                .arg(tree.path())
                .arg(&image)
                .arg(IMAGE),
        )?;
        log.run(as_root("chmod").arg("666").arg(&image))
    }

    /// Boots it for one scenario. The disk goes on as it is: what one boot writes, the next finds.
    ///
    /// # Errors
    /// When QEMU cannot be started, or the machine broke every time.
    pub fn boot(&self, scenario: &Scenario) -> Result<Finished> {
        let at = |name: &str| self.folder.path().join(name);
        let second = at("second.img");
        let file = std::fs::File::create(&second).context("cannot make the second disk")?;
        file.set_len(64 << 20)
            .context("cannot size the second disk")?;
        // By its label: the kernel probes both disks at the same time, and either may be the first.
        let root = format!("root=LABEL={LABEL}");
        let words = [root.as_str(), "rw", "intel_iommu=on"];
        let mut command_line: Vec<String> = words.map(str::to_owned).to_vec();
        command_line.extend(scenario.words.iter().map(|w| (*w).to_owned()));
        command_line.push(format!("iommuctl.scenario={}", scenario.name));
        let machine = Machine {
            accelerator: Accelerator::from_environment(),
            processors: 2,
            memory: 1024,
            iommu: true,
            kernel: at("vmlinuz"),
            initramfs: at(scenario.initramfs),
            command_line,
            devices: vec![
                disk(3, at("root.img")),
                disk(4, second),
                Device::Network { slot: 5 },
                Device::EmptyPort { slot: 7 },
                Device::EmptyPort { slot: 8 },
                Device::EmptyPort { slot: 9 },
            ],
            // What is behind the port in slot 7 is external then.
            acpi_table: Some(external_table(&self.shop, self.folder.path())?),
            console: at(&format!("{}-console.log", scenario.name)),
            report: at(&format!("{}-report.log", scenario.name)),
            monitor: Some(at("monitor")),
        };
        // What cannot be plugged in is missed by the guest, which says so.
        let mut plug = |line: &Line| {
            let Line::Plug(name) = line else { return };
            let done = monitor::commands(name).and_then(|c| monitor::execute(&at("monitor"), &c));
            if let Err(error) = done {
                say(&format!("   cannot plug in `{name}`: {error:#}"));
            }
        };
        let folder = self.folder.path();
        vm::run_machine(&self.shop, &machine, folder, scenario.name, &mut plug)
    }

    /// Keeps its folder, with the logs: something failed.
    pub fn keep(self) {
        let _kept = self.folder.keep();
    }
}

fn disk(slot: u8, image: PathBuf) -> Device {
    Device::Nvme { slot, image }
}

fn install(log: &Log, checkout: &Path, program: &Path, tree: &Path) -> Result<()> {
    let put = |from: &Path, to: &str, mode: &str| {
        log.run(
            as_root("install")
                .args(["-D", "-o", "root", "-g", "root", "-m", mode])
                .arg(from)
                .arg(tree.join(to)),
        )
    };
    put(program, "usr/sbin/iommuctl", "755")?;
    for (from, to, mode) in FILES {
        put(&checkout.join(from), to, mode)?;
    }
    Ok(())
}

/// Boots every scenario, or those named. Returns what went wrong, as text for people; `listen` gets what each reported.
///
/// # Errors
/// As [`System::make`] and [`System::boot`].
pub fn run(names: &[String], mut listen: impl FnMut(&Finished)) -> Result<Option<String>> {
    let system = System::make(Workshop::ensure()?)?;
    let mut failures = String::new();
    if names.is_empty() || names.iter().any(|n| n == DEFAULTS) {
        let finished = Finished {
            report: system.defaults.clone(),
            cut_short: None,
            console: system.shop.cache.join("logs/system-image.log"),
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
    let failures = run(names, |finished| {
        for section in &finished.report.sections {
            say(&format!("   | {}", section.name));
            for (name, good, detail) in &section.checks {
                say(&format!(
                    "   | {} {name}: {detail}",
                    if *good { "ok" } else { "FAIL" }
                ));
            }
            for (key, value) in &section.facts {
                say(&format!("   | {key}: {value}"));
            }
        }
        say(&format!("   ran {}", seconds(finished.took)));
    })?;
    say(failures.as_deref().unwrap_or("   all good"));
    Ok(failures.is_none())
}

// SPDX-License-Identifier: GPL-2.0-only
//! Two real Debian systems that Ansible looks after, with the collection of `packaging/ansible`: what it says it would do, what
//! it does, and that it does it once.
//!
//! Ansible runs in a root of its own, and reaches the machines by SSH through a port of this host. The playbooks are in
//! `tests/fleet`.

use std::fmt::Write as _;
use std::io::Read as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, Log};
use crate::host::build::host_packages;
use crate::host::build::progress::{say, step};
use crate::host::build::toolchain::Toolchain;
use crate::host::build::userspace::checkout;
use crate::host::packages::deb::Packages;
use crate::host::vm::qemu::{Accelerator, Clock, Device, Iommu, Machine};
use crate::host::vm::runner::{self, Running};

/// The machines, as `tests/fleet/inventory.yaml` calls them.
const NAMES: [&str; 2] = ["one", "two"];
/// Size of a disk image; sparse.
const IMAGE: &str = "3000M";
/// The label of its file system.
const LABEL: &str = "iommuctl-fleet";
/// How often machines that broke are started again.
const ATTEMPTS: u32 = 3;
/// How long a machine may take until it answers; it is emulated, and the host may be busy.
const BOOT: Duration = Duration::from_secs(600);
const POLL: Duration = Duration::from_secs(1);

/// How a playbook is to end, on each machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// Good, with something changed, or what would be changed in check mode.
    Changed,
    /// Good, with nothing changed.
    Unchanged,
    /// Failed, with nothing changed.
    Failed,
}

/// One run of `ansible-playbook`.
struct Step {
    name: &'static str,
    words: &'static [&'static str],
    ends: Ends,
    /// What it must say.
    says: &'static [&'static str],
}

const STEPS: [Step; 11] = [
    Step {
        name: "would-install",
        words: &["site.yaml", "--check", "--diff"],
        ends: Ends::Changed,
        says: &[
            "+++ after: /etc/iommuctl/policy.d/50-site.yaml",
            "+version: 1",
        ],
    },
    Step {
        name: "nothing-was-installed",
        words: &["bare.yaml"],
        ends: Ends::Unchanged,
        says: &[],
    },
    Step {
        name: "installs",
        words: &["site.yaml", "--diff"],
        ends: Ends::Changed,
        says: &["(0000:00:04.0): DMA-FQ", "(0000:00:05.0): DMA-FQ"],
    },
    Step {
        name: "again",
        words: &["site.yaml"],
        ends: Ends::Unchanged,
        says: &[],
    },
    Step {
        name: "settled",
        words: &["settled.yaml"],
        ends: Ends::Unchanged,
        says: &[],
    },
    Step {
        name: "would-change",
        words: &[
            "site.yaml",
            "--check",
            "--diff",
            "-e",
            "iommuctl_policy=other.yaml",
        ],
        ends: Ends::Changed,
        says: &[
            "-  - { name: the network is fast",
            "+  - { name: the first disk is fast",
            "types of IOMMU groups",
            "(0000:00:03.0): DMA\n",
            "(0000:00:03.0): DMA-FQ\n",
        ],
    },
    Step {
        name: "invalid",
        words: &["site.yaml", "-e", "iommuctl_policy=invalid.yaml"],
        ends: Ends::Failed,
        says: &["Failed: /etc/iommuctl/policy.d/50-site.yaml:4:", "matches"],
    },
    Step {
        name: "refused",
        words: &["site.yaml", "-e", "iommuctl_policy=refused.yaml"],
        ends: Ends::Failed,
        says: &[
            "Refused: group ",
            "while a driver is bound",
            "  - reboot with",
        ],
    },
    Step {
        name: "still-the-same",
        words: &["site.yaml", "--check"],
        ends: Ends::Unchanged,
        says: &[],
    },
    Step {
        name: "still-settled",
        words: &["settled.yaml"],
        ends: Ends::Unchanged,
        says: &[],
    },
    Step {
        name: "gone",
        words: &["gone.yaml"],
        ends: Ends::Changed,
        says: &[],
    },
];

/// Runs every playbook; the first that does not end as it should ends it. Returns what went wrong, as text for people.
///
/// # Errors
/// When a package cannot be fetched, or the machines broke every time.
pub fn run() -> Result<Option<String>> {
    let toolchain = Toolchain::ensure()?;
    let _turn = runner::turn(&toolchain)?;
    let office = Office::furnish(&toolchain)?;
    let mut attempt = 0;
    let _machines = loop {
        attempt += 1;
        let booted = step("booting two machines", || office.boot(&toolchain));
        match booted {
            Ok(machines) => break machines,
            Err(error) if attempt < ATTEMPTS => say(&format!(
                "   the machines broke (attempt {attempt} of {ATTEMPTS}): {error:#}"
            )),
            Err(error) => return Err(error),
        }
    };
    for step in &STEPS {
        if let Some(failure) = office.play(&toolchain, step)? {
            return Ok(Some(failure));
        }
    }
    Ok(None)
}

/// What both sides need: the disk of the machines, and the controller with its key.
struct Office {
    controller: Chroot,
    folder: tempfile::TempDir,
}

impl Office {
    fn furnish(toolchain: &Toolchain) -> Result<Self> {
        let _lock = toolchain.cache.lock()?;
        let base = Chroot::ensure_fleet(&toolchain.cache, &toolchain.kernel.version, || {
            host_packages::ensure(&toolchain.cache)
        })?;
        let controller = Chroot::ensure_controller(&toolchain.cache, || {
            host_packages::ensure(&toolchain.cache)
        })?;
        let checkout = checkout()?;
        let debs = Packages::ensure(&toolchain.cache)?;
        let folder = tempfile::Builder::new()
            .prefix("fleet-")
            .tempdir_in(toolchain.cache.join("run"))
            .context("cannot make a folder for the fleet")?;
        let office = Self { controller, folder };
        let log = toolchain.cache.log("fleet-office")?;
        step("making keys and the disk of a machine", || {
            office.keys(&log)?;
            office.collection(&log, &checkout)?;
            office.sanity(&log)?;
            let package = office.inside("iommuctl.deb");
            log.run(as_root("cp").arg(&debs.iommuctl).arg(&package))?;
            let tree = base.beside(office.at("tree"));
            log.run(as_root("cp").arg("-a").arg(base.path()).arg(tree.path()))?;
            let made = office.disk(&log, &tree);
            // Root's files, which the folder's own removal could not touch.
            remove(&log, tree.path())?;
            made
        })?;
        Ok(office)
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A file of ours in the controller.
    fn inside(&self, name: &str) -> PathBuf {
        self.controller.outside("/fleet").join(name)
    }

    /// One pair of keys for the machines and one for the controller, which end with this run.
    fn keys(&self, log: &Log) -> Result<()> {
        remove(log, &self.inside(""))?;
        let make = "mkdir -m 700 /fleet && ssh-keygen -q -t ed25519 -N '' -f /fleet/key && \
            ssh-keygen -q -t ed25519 -N '' -f /fleet/host && \
            echo \"fleet $(cat /fleet/host.pub)\" > /fleet/known_hosts";
        log.run(&mut self.controller.command("sh", ["-c", make]))
    }

    fn collection(&self, log: &Log, checkout: &Path) -> Result<()> {
        let copy = |from: &str, to: &str| {
            let to = self.inside(to);
            let parent = to.parent().context("a file of ours is in a folder")?;
            log.run(as_root("mkdir").arg("-p").arg(parent))?;
            log.run(as_root("cp").arg("-r").arg(checkout.join(from)).arg(&to))
        };
        copy(
            "packaging/ansible",
            "collections/ansible_collections/iommuctl/iommuctl",
        )?;
        copy("tests/fleet", "tests")
    }

    /// What can be known of the collection without a machine.
    fn sanity(&self, log: &Log) -> Result<()> {
        let look = "cd /fleet/tests && python3 -m compileall -q /fleet/collections && \
            ansible-doc iommuctl.iommuctl.iommu_policy iommuctl.iommuctl.iommu_facts && \
            ansible-doc -t role iommuctl.iommuctl.iommuctl && \
            ansible-playbook --syntax-check site.yaml bare.yaml settled.yaml gone.yaml";
        log.run(&mut self.controller.command("sh", ["-c", look]))
    }

    /// The disk that every machine starts with, and beside it what boots it.
    fn disk(&self, log: &Log, tree: &Chroot) -> Result<()> {
        let put = |from: &Path, to: &str| {
            let to = tree.path().join(to);
            log.run(
                as_root("install")
                    .args(["-D", "-m", "600"])
                    .arg(from)
                    .arg(to),
            )
        };
        put(&self.inside("key.pub"), "root/.ssh/authorized_keys")?;
        let network = "[Match]\nName=en*\n[Network]\nAddress=10.0.2.15/24\n";
        // An initramfs that a machine makes is for itself: everything is emulated there.
        let settle =
            "rm /etc/ssh/ssh_host_* && printf %s \"$1\" > /etc/systemd/network/fleet.network && \
            printf 'MODULES=dep\\nCOMPRESS=gzip\\n' > /etc/initramfs-tools/conf.d/fleet && \
            systemctl enable systemd-networkd ssh";
        log.run(&mut tree.command("sh", ["-c", settle, "sh", network]))?;
        put(&self.inside("host"), "etc/ssh/ssh_host_ed25519_key")?;
        for name in ["vmlinuz", "initrd.img"] {
            let copy = self.at(name);
            log.run(
                as_root("cp")
                    .arg("-L")
                    .arg(tree.path().join(name))
                    .arg(&copy),
            )?;
            log.run(as_root("chmod").arg("644").arg(&copy))?;
        }
        let image = self.at("root.img");
        let mut mkfs = as_root("mkfs.ext4");
        mkfs.args(["-q", "-F", "-L", LABEL, "-d"]).arg(tree.path());
        log.run(mkfs.arg(&image).arg(IMAGE))?;
        log.run(as_root("chmod").arg("644").arg(&image))
    }

    /// Starts the machines, and waits until each answers.
    fn boot(&self, toolchain: &Toolchain) -> Result<Vec<Running>> {
        let log = toolchain.cache.log("fleet-boot")?;
        let mut config = String::from(
            "Host *\n HostName 127.0.0.1\n User root\n IdentityFile /fleet/key\n HostKeyAlias fleet\n \
             UserKnownHostsFile /fleet/known_hosts\n StrictHostKeyChecking yes\n",
        );
        let mut machines = Vec::new();
        for name in NAMES {
            let port = free_port()?;
            let machine = self.machine(toolchain, &log, name, port)?;
            let running =
                Running::launch(toolchain, &machine, &self.at(&format!("{name}-qemu.log")))?;
            machines.push((name, port, running));
            write!(config, "Host {name}\n Port {port}\n").context("cannot write a text")?;
        }
        let write = "printf %s \"$1\" > /fleet/ssh_config";
        log.run(&mut self.controller.command("sh", ["-c", write, "sh", &config]))?;
        let begin = Instant::now();
        for (name, port, running) in &mut machines {
            while !answers(*port) {
                if let Some(status) = running.ended()? {
                    bail!("QEMU of machine `{name}` ended with {status}");
                }
                ensure!(
                    begin.elapsed() < BOOT,
                    "machine `{name}` does not answer; console: {}",
                    console(toolchain, name).display()
                );
                std::thread::sleep(POLL);
            }
        }
        Ok(machines.into_iter().map(|(.., running)| running).collect())
    }

    fn machine(&self, toolchain: &Toolchain, log: &Log, name: &str, port: u16) -> Result<Machine> {
        let image = self.at(&format!("{name}.img"));
        log.run(
            Command::new("cp")
                .args(["--sparse=always", "--"])
                .arg(self.at("root.img"))
                .arg(&image),
        )?;
        let root = format!("root=LABEL={LABEL}");
        let hostname = format!("systemd.hostname={name}");
        let words = [&root, "rw", "intel_iommu=on", "iommu.strict=1", &hostname];
        Ok(Machine {
            arch: Arch::X86_64,
            accelerator: Accelerator::from_environment(Arch::X86_64),
            processors: 2,
            clock: Clock::Host,
            memory: 1024,
            iommu: Iommu::Intel(""),
            kernel: self.at("vmlinuz"),
            initramfs: self.at("initrd.img"),
            command_line: words.map(str::to_owned).to_vec(),
            devices: vec![
                Device::Nvme { slot: 3, image },
                Device::Blank { slot: 4 },
                Device::Reachable { slot: 5, port },
            ],
            acpi_table: None,
            console: console(toolchain, name),
            report: self.at(&format!("{name}-report.log")),
            monitor: None,
        })
    }

    /// Runs one playbook. Returns what went wrong.
    fn play(&self, toolchain: &Toolchain, part: &Step) -> Result<Option<String>> {
        let enter = "cd /fleet/tests && exec ansible-playbook \"$@\" 2>&1";
        let words: Vec<&str> = [&["-c", enter, "sh"], part.words].concat();
        let log = toolchain
            .cache
            .join(format!("logs/fleet-{}.log", part.name));
        let title = format!("{}: ansible-playbook {}", part.name, part.words.join(" "));
        let said = step(&title, || {
            let output = self.controller.command("sh", &words).output();
            let output = output.context("cannot start ansible-playbook in the controller")?;
            let said = String::from_utf8_lossy(&output.stdout).into_owned();
            std::fs::write(&log, &said)
                .with_context(|| format!("cannot write the log {}", log.display()))?;
            Ok(said)
        })?;
        let wrong = judge(&said, part.ends, part.says);
        if wrong.is_empty() {
            return Ok(None);
        }
        let list: String = wrong.iter().map(|line| format!("  - {line}\n")).collect();
        Ok(Some(format!(
            "fleet: `{}` failed:\n{list}  log: {}",
            part.name,
            log.display()
        )))
    }
}

impl Drop for Office {
    fn drop(&mut self) {
        // Keys are not kept. What cannot be removed now is removed by the next run.
        let _ = as_root("rm").arg("-rf").arg(self.inside("")).status();
    }
}

/// What the kernel of a machine prints, kept until the next run.
fn console(toolchain: &Toolchain, name: &str) -> PathBuf {
    toolchain
        .cache
        .join(format!("logs/fleet-{name}-console.log"))
}

fn remove(log: &Log, path: &Path) -> Result<()> {
    let options = ["-rf", "--one-file-system", "--"];
    log.run(as_root("rm").args(options).arg(path))
}

/// A port that nobody listens on. Somebody may before we do; then QEMU ends at once, and is started again.
fn free_port() -> Result<u16> {
    let socket = TcpListener::bind("127.0.0.1:0").context("cannot find a free port")?;
    Ok(socket
        .local_addr()
        .context("cannot find a free port")?
        .port())
}

/// Whether an SSH server greets there. QEMU takes every connection, whether the guest listens or not.
fn answers(port: u16) -> bool {
    let greeting = || -> std::io::Result<[u8; 4]> {
        let mut stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let mut begin = [0; 4];
        stream.read_exact(&mut begin)?;
        Ok(begin)
    };
    greeting().is_ok_and(|begin| &begin == b"SSH-")
}

/// What is wrong with what a playbook said.
fn judge(said: &str, ends: Ends, says: &[&str]) -> Vec<String> {
    let mut wrong = Vec::new();
    for name in NAMES {
        let line = recap(said, name);
        if line.and_then(ending) != Some(ends) {
            let words: Vec<_> = line.unwrap_or("no recap").split_whitespace().collect();
            wrong.push(format!(
                "machine `{name}` is not {ends:?}: {}",
                words.join(" ")
            ));
        }
    }
    let missing = says.iter().filter(|text| !said.contains(*text));
    wrong.extend(missing.map(|text| format!("it does not say `{}`", text.trim())));
    wrong
}

/// The line about a machine with which Ansible ends.
fn recap<'a>(said: &'a str, name: &str) -> Option<&'a str> {
    let (_, recap) = said.rsplit_once("PLAY RECAP")?;
    recap
        .lines()
        .find(|line| line.split_whitespace().next() == Some(name))
}

/// What such a line says; nothing if that is in no way we know.
fn ending(line: &str) -> Option<Ends> {
    let count = |what: &str| {
        let mut words = line.split_whitespace();
        words.find_map(|word| {
            word.strip_prefix(what)?
                .strip_prefix('=')?
                .parse::<u32>()
                .ok()
        })
    };
    match (count("changed")?, count("failed")?, count("unreachable")?) {
        (0, 0, 0) => Some(Ends::Unchanged),
        (_, 0, 0) => Some(Ends::Changed),
        (0, _, 0) => Some(Ends::Failed),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(one: &str, two: &str) -> String {
        format!("TASK [x]\nchanged: [one]\n\nPLAY RECAP ****\none  : {one}\ntwo  : {two}\n\n")
    }

    const CHANGED: &str =
        "ok=9    changed=2    unreachable=0    failed=0    skipped=5    rescued=0";
    const SAME: &str = "ok=9    changed=0    unreachable=0    failed=0    skipped=5    rescued=0";
    const FAILED: &str = "ok=3    changed=0    unreachable=0    failed=1    skipped=5    rescued=1";

    #[test]
    fn both_machines_must_end_as_expected() {
        assert!(judge(&said(CHANGED, CHANGED), Ends::Changed, &[]).is_empty());
        assert!(judge(&said(SAME, SAME), Ends::Unchanged, &[]).is_empty());
        assert!(judge(&said(FAILED, FAILED), Ends::Failed, &[]).is_empty());
        assert_eq!(judge(&said(SAME, CHANGED), Ends::Unchanged, &[]).len(), 1);
        assert_eq!(judge(&said(FAILED, SAME), Ends::Failed, &[]).len(), 1);
    }

    #[test]
    fn a_machine_out_of_reach_ends_in_no_way_we_know() {
        let gone = "ok=0    changed=0    unreachable=1    failed=0";
        for ends in [Ends::Changed, Ends::Unchanged, Ends::Failed] {
            assert_eq!(judge(&said(gone, gone), ends, &[]).len(), 2);
        }
        assert_eq!(judge("ERROR! no such file", Ends::Failed, &[]).len(), 2);
    }

    #[test]
    fn what_fails_after_a_change_does_not_pass_for_refused() {
        let half = "ok=3    changed=1    unreachable=0    failed=1";
        assert_eq!(judge(&said(half, FAILED), Ends::Failed, &[]).len(), 1);
    }

    #[test]
    fn what_must_be_said_is_looked_for() {
        let wrong = judge(&said(SAME, SAME), Ends::Unchanged, &["+version: 1"]);
        assert_eq!(wrong, ["it does not say `+version: 1`"]);
    }

    #[test]
    fn the_collection_has_the_version_of_the_program() {
        let galaxy = checkout().unwrap().join("packaging/ansible/galaxy.yml");
        let galaxy = std::fs::read_to_string(galaxy).unwrap();
        let version = format!("\nversion: {}\n", env!("CARGO_PKG_VERSION"));
        assert!(galaxy.contains(&version), "{galaxy}");
    }
}

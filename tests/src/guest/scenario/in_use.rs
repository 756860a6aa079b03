// SPDX-License-Identifier: GPL-2.0-only
//! What is in use is not interrupted, and the message says by what.

use std::os::unix::fs::MetadataExt as _;
use std::process::Command;
use std::sync::mpsc;

use anyhow::{ensure, Context as _, Result};
use nix::mount::{mount, umount, MsFlags};
use nix::sched::{unshare, CloneFlags};

use super::rebind::{rebind, works};
use super::Scenarios;
use crate::guest::bench::Bench;
use crate::guest::echo::{self, busybox};
use crate::guest::volume::Volume;
use crate::guest::{cli, pci, vfio};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[("rebind-in-use", in_use)];

/// Each reason by itself.
fn in_use(bench: &Bench) -> Result<()> {
    let device = format!("/dev/{}", pci::block_device(pci::DISK)?);
    {
        let _volume = Volume::make(&device)?;
        let name = device.trim_start_matches("/dev/");
        bench.check(
            "mounted",
            refused(pci::DISK, &["/mnt", name, "--allow-mounted"]),
        );
    }
    bench.check("mounted-elsewhere", elsewhere(&device));
    bench.check("swap", swap(&device));
    bench.check("free-again", free(pci::DISK));
    bench.check("default-route", default_route());
    bench.check("own-connection", own_connection());
    bench.check("vfio", in_user_space());
    bench.check(
        "still-works",
        works(pci::DISK)
            .and(works(pci::NETWORK))
            .and(works(pci::DISK_TWO)),
    );
    Ok(())
}

/// Something that is made anew when a driver is bound, so that its number tells whether it was.
pub(super) fn trace(address: &str) -> Result<u64> {
    let folder = pci::folder(address);
    let path = ["nvme", "net", "vfio-dev"]
        .iter()
        .map(|name| folder.join(name))
        .find(|p| p.exists());
    let path = path.with_context(|| format!("{address} offers nothing"))?;
    Ok(std::fs::metadata(&path)?.ino())
}

/// A rebind is refused, with these words, and nothing was touched. Alone and as part of `auto`.
fn refused(address: &str, words: &[&str]) -> Result<String> {
    refused_to(address, words, cli::iommuctl)
}

fn refused_to(
    address: &str,
    words: &[&str],
    run: impl Fn(&str) -> Result<cli::Said>,
) -> Result<String> {
    let (group, before) = (pci::group(address)?, trace(address)?);
    let old = pci::type_of(group)?;
    let mut told = String::new();
    for route in ["rebind", "auto --allow-interrupt"] {
        let said = run(&format!("set-mode --route {route} {address} identity"))?;
        told = said.ended(3)?.mentions(&[&[address], words].concat())?.err;
    }
    pci::expect_type(group, &old)?;
    ensure!(
        trace(address)? == before,
        "{address} was unbound and bound again"
    );
    Ok(told)
}

/// Not refused any more.
fn free(address: &str) -> Result<String> {
    rebind(address, "identity")?;
    rebind(address, "DMA-FQ")?;
    Ok("as it should be".to_owned())
}

/// A file system that only another mount namespace has, as a container does: no file names it.
fn elsewhere(device: &str) -> Result<String> {
    let (ready, wait) = mpsc::channel();
    let (done, finished) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        scope.spawn(move || {
            // The receivers live until this has ended.
            let _ = ready.send(mount_for_this_thread(device));
            let _ = finished.recv();
            let _ = umount("/mnt");
        });
        let mounted = wait.recv().context("the other thread ended");
        let result = mounted
            .and_then(|made| made)
            .and_then(|()| refused(pci::DISK, &["claimed", "--allow-mounted"]));
        drop(done);
        result
    })
}

fn mount_for_this_thread(device: &str) -> Result<()> {
    unshare(CloneFlags::CLONE_NEWNS).context("no mount namespace of its own")?;
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>)
        .context("cannot keep mounts to this thread")?;
    let flags = MsFlags::empty();
    mount(Some(device), "/mnt", Some("ext2"), flags, None::<&str>)
        .with_context(|| format!("cannot mount {device}"))
}

fn swap(device: &str) -> Result<String> {
    busybox(&format!("mkswap {device}"))?;
    busybox(&format!("swapon {device}"))?;
    let result = refused(pci::DISK, &[device, "swaps to", "--allow-swap"]);
    busybox(&format!("swapoff {device}"))?;
    result
}

fn default_route() -> Result<String> {
    let interface = echo::NETWORK.up()?;
    busybox("route add default gw 10.0.2.2")?;
    let words = [interface.as_str(), "default route", "--allow-default-route"];
    let told = refused(pci::NETWORK, &words)?;
    // Its own flag, and no other, lets it happen.
    let line = |flag: &str| format!("set-mode --route rebind {flag} {} identity", pci::NETWORK);
    cli::iommuctl(&line("--allow-own-connection"))?.ended(3)?;
    cli::iommuctl(&line("--allow-default-route"))?.ended(0)?;
    works(pci::NETWORK)?;
    rebind(pci::NETWORK, "DMA-FQ")?;
    Ok(told)
}

/// As if by SSH: the variable is in the environment of the parent only, as it is below sudo.
fn own_connection() -> Result<String> {
    echo::NETWORK.up()?;
    let run = |line: &str| {
        let mut command = Command::new("/bin/sh");
        let script = format!("unset SSH_CONNECTION; {} {line}; exit $?", cli::PROGRAM);
        command.args(["-c", &script]);
        command.env("SSH_CONNECTION", "10.0.2.2 50000 10.0.2.15 22");
        cli::said(&mut command, line)
    };
    let interface = pci::interface(pci::NETWORK)?;
    let words = [
        interface.as_str(),
        "your own connection",
        "--allow-own-connection",
    ];
    refused_to(pci::NETWORK, &words, run)
}

/// A group that a program has, by the program that has it: this one.
fn in_user_space() -> Result<String> {
    let group = pci::group(pci::DISK_TWO)?;
    vfio::bind(pci::DISK_TWO)?;
    let owned = vfio::Owned::take(group)?;
    let node = format!("/dev/vfio/{group}");
    let told = refused(pci::DISK_TWO, &[&node, "process 1 ", "--allow-vfio"]);
    drop(owned);
    // Not in use any more, it needs no rebind: the kernel changes it as it is.
    let said = cli::iommuctl(&format!(
        "set-mode --route rebind {} identity",
        pci::DISK_TWO
    ));
    let changed = said.and_then(|s| s.ended(0)?.mentions(&["sysfs"]));
    vfio::unbind(pci::DISK_TWO)?;
    pci::block_device(pci::DISK_TWO)?;
    changed?;
    rebind(pci::DISK_TWO, "DMA-FQ")?;
    told
}

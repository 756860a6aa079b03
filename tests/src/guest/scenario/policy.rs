// SPDX-License-Identifier: GPL-2.0-only
//! Policies, and the lockdown, on a kernel that really switches.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use anyhow::{ensure, Context as _, Result};

use super::in_use::trace;
use super::rebind::works;
use super::{disk, finish, load_live, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::load::Load;
use crate::guest::volume::Volume;
use crate::guest::{cli, modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("policy", apply),
    ("policy-without-module", without_module),
    ("policy-rebind", rebind),
    ("policy-external", external),
    ("lockdown", lockdown),
];

/// The policy of the system.
pub(super) const FILE: &str = "/etc/iommuctl/policy.d/50-test.yaml";

/// Puts a policy in its place, as a package or a person would: nobody else can write there.
pub(super) fn write_policy(rules: &str) -> Result<()> {
    let folder = Path::new(FILE).parent().context("no folder")?;
    std::fs::create_dir_all(folder)?;
    for folder in folder.ancestors() {
        mode(folder, 0o755)?;
    }
    std::fs::write(FILE, format!("version: 1\nrules:\n{rules}"))?;
    mode(Path::new(FILE), 0o644)
}

fn mode(path: &Path, mode: u32) -> Result<()> {
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode))
        .with_context(|| format!("cannot change the mode of {}", path.display()))
}

pub(super) fn rule(name: &str, matches: &str, goal: &str) -> String {
    format!("  - {{ name: {name}, match: {{ {matches} }}, type: {goal} }}\n")
}

/// The types of all groups, and their numbers.
fn types() -> Result<Vec<(u32, String)>> {
    let groups = pci::groups()?.into_iter();
    groups.map(|g| Ok((g, pci::type_of(g)?))).collect()
}

/// What the module has counted under `name`.
fn counter(name: &str) -> Result<u64> {
    let path = format!("/sys/kernel/iommu_live/{name}");
    let text = std::fs::read_to_string(&path).with_context(|| format!("cannot read {path}"))?;
    text.trim()
        .parse()
        .with_context(|| format!("{path} reads {text}"))
}

/// A policy that makes the disk under load strict and then lazy again.
fn apply(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    for group in pci::groups()? {
        write_type(group, "DMA-FQ")?;
    }
    let load = Load::start(&device)?;
    let address = format!("address: \"{}\"", pci::DISK);
    write_policy(&rule("the disk is strict", &address, "DMA"))?;
    bench.check("plan-names-route-and-rule", planned(group));
    bench.check("check-says-something-would-change", check(group));
    bench.check("apply-tightens-the-disk-alone", applied(group, "DMA"));
    bench.check("again-writes-nothing", again());
    write_policy(&rule("the disk is fast", &address, "DMA-FQ"))?;
    bench.check("a-new-policy-is-a-difference", ends("policy diff", 4));
    bench.check("apply-relaxes-it", applied(group, "DMA-FQ"));
    mode(Path::new(FILE), 0o666)?;
    bench.check("what-others-can-write-is-refused", ends("policy apply", 1));
    std::fs::write(FILE, "version: 1\nrules: { }\n")?;
    mode(Path::new(FILE), 0o644)?;
    bench.check("what-is-wrong-is-refused", ends("policy apply", 1));
    bench.check("and-changes-nothing", pci::expect_type(group, "DMA-FQ"));
    finish(bench, load);
    std::fs::remove_file(FILE)?;
    Ok(())
}

fn planned(group: u32) -> Result<String> {
    let said = cli::iommuctl("policy plan")?.ended(0)?.mentions(&[
        pci::DISK,
        "module",
        "would become DMA",
        "the disk is strict",
    ])?;
    pci::expect_type(group, "DMA-FQ")?;
    Ok(said.out)
}

fn check(group: u32) -> Result<String> {
    let said = cli::iommuctl("policy apply --check")?.ended(4)?;
    pci::expect_type(group, "DMA-FQ")?;
    Ok(said.out)
}

fn applied(group: u32, wanted: &str) -> Result<String> {
    let said = cli::iommuctl("policy apply")?.ended(0)?;
    pci::expect_type(group, wanted)?;
    for (other, found) in types()? {
        ensure!(
            other == group || found == "DMA-FQ",
            "group {other} reads {found}, and nobody asked for that"
        );
    }
    Ok(said.out)
}

/// The module counts what reaches it: nothing does.
fn again() -> Result<String> {
    let before = (counter("tightened")?, counter("passed_on")?);
    let said = cli::iommuctl("policy apply")?.ended(0)?;
    let after = (counter("tightened")?, counter("passed_on")?);
    ensure!(before == after, "{before:?} became {after:?}");
    Ok(said.out)
}

fn ends(line: &str, code: i32) -> Result<String> {
    Ok(cli::iommuctl(line)?.ended(code)?.all())
}

/// Without the module a rule cannot have its way, and that is said.
fn without_module(bench: &Bench) -> Result<()> {
    let group = pci::group(pci::DISK)?;
    write_policy(&rule("disks are strict", "class: nvme", "DMA"))?;
    bench.check("refused-with-the-rule-and-what-would-work", refused());
    bench.check("stays-lazy", pci::expect_type(group, "DMA-FQ"));
    std::fs::remove_file(FILE)?;
    Ok(())
}

fn refused() -> Result<String> {
    let words = &["disks are strict", "nvme", "modprobe iommu_live"];
    Ok(cli::iommuctl("policy apply")?
        .ended(3)?
        .mentions(words)?
        .all())
}

/// A rule that allows a rebind has its way with a disk that is free, and not with one that is mounted.
fn rebind(bench: &Bench) -> Result<()> {
    let (free, mounted) = (pci::group(pci::DISK_TWO)?, pci::group(pci::DISK)?);
    let write = |address: &str, goal: &str| {
        let matches = format!("address: \"{address}\"");
        write_policy(&rule("no translation", &matches, goal))
    };
    for route in ["live", "boot"] {
        write(pci::DISK_TWO, &format!("identity, route: {route}"))?;
        bench.check(
            &format!("{route}-interrupts-nothing"),
            left(pci::DISK_TWO, &["no translation"]),
        );
    }
    write(pci::DISK_TWO, "identity, route: rebind")?;
    let words = &[
        pci::DISK_TWO,
        "rebind (interrupts)",
        "would become identity",
    ];
    let plan = cli::iommuctl("policy plan").and_then(|s| s.ended(0)?.mentions(words));
    bench.check("plan-says-that-it-interrupts", plan);
    bench.check("stays-lazy", pci::expect_type(free, "DMA-FQ"));
    bench.check("rebinds-a-free-disk", rebound(free, "identity"));
    write(pci::DISK_TWO, "DMA-FQ, route: rebind")?;
    bench.check("and-back", rebound(free, "DMA-FQ"));
    write(pci::DISK, "identity, route: rebind")?;
    let device = format!("/dev/{}", pci::block_device(pci::DISK)?);
    {
        let _volume = Volume::make(&device)?;
        let words = &[pci::DISK, "mounted at /mnt", "no translation"];
        bench.check("refuses-a-mounted-disk", left(pci::DISK, words));
    }
    bench.check("rebinds-it-when-it-is-free", rebound(mounted, "identity"));
    write(pci::DISK, "DMA-FQ, route: rebind")?;
    bench.check("and-back-again", rebound(mounted, "DMA-FQ"));
    bench.check("both-work", works(pci::DISK).and(works(pci::DISK_TWO)));
    std::fs::remove_file(FILE)?;
    Ok(())
}

fn rebound(group: u32, wanted: &str) -> Result<String> {
    let said = cli::iommuctl("policy apply")?.ended(0)?.mentions(&[
        "rebind",
        "changed",
        "bound to nvme",
    ])?;
    pci::expect_type(group, wanted)?;
    Ok(said.out)
}

/// A policy is refused, with these words, and the disk it is about was not even unbound.
fn left(address: &str, words: &[&str]) -> Result<String> {
    let (before, made) = (types()?, trace(address)?);
    let said = cli::iommuctl("policy apply")?.ended(3)?.mentions(words)?;
    let now = types()?;
    ensure!(now == before, "{before:?} became {now:?}: {said}");
    ensure!(
        trace(address)? == made,
        "{address} was unbound and bound again: {said}"
    );
    Ok(said.all())
}

/// Everything becomes strict under load, in one batch, and what was lazy is relaxed again.
fn lockdown(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    for group in pci::groups()? {
        write_type(group, "DMA-FQ")?;
    }
    // One that was strict before, and must stay so.
    let strict = pci::group(pci::DISK_TWO)?;
    write_type(strict, "DMA")?;
    let before = types()?;
    let load = Load::start(&device)?;
    bench.check("lockdown-tightens-all", all_strict("lockdown", 0));
    bench.check("again-does-nothing", all_strict("lockdown", 0));
    bench.check(
        "release-restores-exactly-that",
        restored("release", 0, &before),
    );
    bench.check(
        "while-a-command-runs-the-disk-is-strict",
        meanwhile(group, &before),
    );
    finish(bench, load);
    Ok(())
}

fn all_strict(line: &str, code: i32) -> Result<String> {
    let said = cli::iommuctl(line)?.ended(code)?;
    for (group, found) in types()? {
        ensure!(found == "DMA", "group {group} reads {found}: {said}");
    }
    Ok(said.out)
}

fn restored(line: &str, code: i32, before: &[(u32, String)]) -> Result<String> {
    let said = cli::iommuctl(line)?.ended(code)?;
    let now = types()?;
    ensure!(now == before, "{before:?} became {now:?}: {said}");
    Ok(said.out)
}

fn meanwhile(group: u32, before: &[(u32, String)]) -> Result<String> {
    let line = format!("lockdown --while {} list --type DMA --json", cli::PROGRAM);
    let said = cli::iommuctl(&line)?.ended(0)?;
    let document = said.json()?;
    let groups = document["groups"].as_array().context("no groups")?;
    ensure!(
        groups.iter().any(|g| g["group"] == group) && groups.len() == before.len(),
        "not all groups were strict: {said}"
    );
    let now = types()?;
    ensure!(now == before, "{before:?} became {now:?}");
    Ok(format!("{} groups were strict", groups.len()))
}

/// A device behind an external port is not relaxed, by a policy or by the end of a lockdown.
fn external(bench: &Bench) -> Result<()> {
    load_live()?;
    let before = types()?;
    write_policy(&rule("outside is fast", "external: true", "DMA-FQ"))?;
    bench.check("policy-is-refused", not_relaxed(3));
    bench.check("lockdown", all_strict("lockdown", 0));
    bench.check("release-leaves-it-strict", restored("release", 0, &before));
    // A rule by force still meets the module, which knows no force.
    let by_force = rule(
        "outside is fast",
        "external: true",
        "DMA-FQ, force: true, reason: a test",
    );
    write_policy(&by_force)?;
    bench.check("module-refuses-even-by-force", not_relaxed(3));
    std::fs::remove_file(FILE)?;
    modules::unload(modules::LIVE)
}

fn not_relaxed(code: i32) -> Result<String> {
    let before = types()?;
    let said = cli::iommuctl("policy apply")?.ended(code)?;
    let now = types()?;
    ensure!(now == before, "{before:?} became {now:?}: {said}");
    Ok(said.all())
}

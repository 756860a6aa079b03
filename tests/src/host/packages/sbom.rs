// SPDX-License-Identifier: GPL-2.0-only
//! The list of what is linked into `iommuctl` (a software bill of materials), as CycloneDX.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use anyhow::{ensure, Context as _, Result};
use serde_json::Value;

use crate::host::build::cache::{self, Cache};
use crate::host::build::command::{cargo, Log};
use crate::host::build::progress::{say, step};
use crate::host::build::userspace::checkout;
use crate::host::checks;

/// The list is for the program as it runs there, without what is only needed to build it.
const TARGET: &str = "x86_64-unknown-linux-gnu";

/// Writes `out/sbom/iommuctl.cdx.json` of the cache.
///
/// # Errors
/// When it cannot be made, is another one the second time, or does not list what cargo lists.
pub fn make(cache: &Cache) -> Result<()> {
    let tool = checks::cargo_tool(cache, "cargo-cyclonedx")?;
    let log = cache.log("sbom")?;
    let checkout = checkout()?;
    let linked = linked(&log, &checkout)?;
    let (list, again) = step("listing what is linked into iommuctl, twice", || {
        let once = |name| {
            let folder = cache.join("run").join(name);
            generate(&log, &tool, &checkout, &folder, &linked)
        };
        Ok((once("source")?, once("source-elsewhere")?))
    })?;
    ensure!(list == again, "the list is another one the second time");
    let listed: BTreeSet<String> = components(&list).map(named).collect();
    let missing: Vec<_> = linked.symmetric_difference(&listed).collect();
    ensure!(
        missing.is_empty(),
        "not both linked and in the list: {missing:?}"
    );
    let folder = cache.join("out/sbom");
    log.run(Command::new("mkdir").arg("-p").arg(&folder))?;
    let file = folder.join("iommuctl.cdx.json");
    cache::write(&file, &(serde_json::to_string_pretty(&list)? + "\n"))?;
    say(&format!(
        "   {} crates, in {}",
        listed.len(),
        file.display()
    ));
    Ok(())
}

/// The list, made from a copy of the source in `folder`: the tool leaves its files beside each `Cargo.toml`.
fn generate(
    log: &Log,
    tool: &Path,
    checkout: &Path,
    folder: &Path,
    linked: &BTreeSet<String>,
) -> Result<Value> {
    let remove = || log.run(Command::new("rm").arg("-rf").arg(folder));
    remove()?;
    log.run(Command::new(checkout.join("packaging/source.sh")).arg(folder))?;
    let mut command = Command::new(tool);
    command.current_dir(folder).args([
        "cyclonedx",
        "--manifest-path",
        "cli/Cargo.toml",
        "--format",
        "json",
        "--spec-version",
        "1.5",
        "--target",
        TARGET,
        "--no-build-deps",
    ]);
    // With a fixed time it also leaves out its random serial number.
    log.run(command.env("SOURCE_DATE_EPOCH", "0"))?;
    let file = folder.join("cli/iommuctl.cdx.json");
    let text = std::fs::read_to_string(&file)
        .with_context(|| format!("cannot read {}", file.display()))?;
    remove()?;
    // Where it was made says nothing.
    let text = text.replace(&folder.display().to_string(), "");
    let mut list = serde_json::from_str(&text).context("the list is not JSON")?;
    keep(&mut list, linked);
    Ok(list)
}

/// Drops what is not linked: the tool asks `cargo metadata`, which also has crates that only a feature of theirs is asked of,
/// should they be there (`crate?/feature`).
fn keep(list: &mut Value, linked: &BTreeSet<String>) {
    let is_dropped = |part: &&Value| !linked.contains(&named(part));
    let dropped: Vec<Value> = components(list)
        .filter(is_dropped)
        .map(|part| part["bom-ref"].clone())
        .collect();
    for (of, key) in [("components", "bom-ref"), ("dependencies", "ref")] {
        let Some(parts) = list[of].as_array_mut() else {
            continue;
        };
        parts.retain(|part| !dropped.contains(&part[key]));
        for part in parts {
            if let Some(on) = part.get_mut("dependsOn").and_then(Value::as_array_mut) {
                on.retain(|name| !dropped.contains(name));
            }
        }
    }
}

/// The crates in a list, with ours.
fn components(list: &Value) -> impl Iterator<Item = &Value> {
    let others = list["components"].as_array().into_iter().flatten();
    others.chain([&list["metadata"]["component"]])
}

/// As `cargo tree` calls it.
fn named(component: &Value) -> String {
    let word = |key: &str| component[key].as_str().unwrap_or("?").to_owned();
    format!("{} v{}", word("name"), word("version"))
}

/// Name and version of every crate that is linked, as `cargo tree` has them.
fn linked(log: &Log, checkout: &Path) -> Result<BTreeSet<String>> {
    let mut tree = cargo();
    tree.current_dir(checkout).args([
        "tree", "--locked", "-p", "iommuctl", "-e", "normal", "--prefix", "none", "--target",
        TARGET,
    ]);
    let text = log.capture(&mut tree)?;
    let two_words = |line: &str| line.split(' ').take(2).collect::<Vec<_>>().join(" ");
    Ok(text.lines().map(two_words).collect())
}

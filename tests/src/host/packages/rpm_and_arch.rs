// SPDX-License-Identifier: GPL-2.0-only
//! Packages for distributions that are not here: built in the Debian that Debian's own are built in, and looked at. They were
//! not installed on Fedora or Arch; `packaging/README.md` says what that leaves open.

use std::process::Command;

use anyhow::Result;

use crate::host::build::cache::Cache;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::as_root;
use crate::host::build::host_packages;
use crate::host::build::progress::{say, step};
use crate::host::build::userspace::checkout;
use crate::host::packages::deb;

/// Builds the RPM packages into `out/rpm` of the cache.
///
/// # Errors
/// When they do not build, rpmlint finds something, or files differ from Debian's: the message has the log's path.
pub fn rpm(cache: &Cache) -> Result<()> {
    build(
        cache,
        "rpm",
        "building the RPM packages, and looking at them",
    )
}

/// Builds the packages for Arch Linux into `out/arch` of the cache.
///
/// # Errors
/// When they do not build, or files differ from Debian's: the message has the log's path.
pub fn arch(cache: &Cache) -> Result<()> {
    build(cache, "arch", "building Arch packages, and looking at them")
}

/// `tests/packages/KIND.sh` does it, inside the builder.
fn build(cache: &Cache, kind: &str, title: &str) -> Result<()> {
    let debian = deb::Packages::ensure(cache)?;
    let builder = Chroot::ensure_builder(cache, || host_packages::ensure(cache))?;
    let log = cache.log(kind)?;
    let (inside, version) = (format!("/foreign/{kind}"), env!("CARGO_PKG_VERSION"));
    let outside = builder.outside(&inside);
    step(title, || {
        log.run(as_root("rm").arg("-rf").arg(&outside))?;
        log.run(as_root("mkdir").arg("-p").arg(outside.join("out")))?;
        log.run(as_root("cp").args([&debian.iommuctl, &debian.module, &outside]))?;
        let source = format!("{inside}/iommuctl-{version}");
        deb::put_source(&log, &builder, cache, &checkout()?, &source)?;
        let script = format!("{source}/tests/packages/{kind}.sh");
        log.run(&mut builder.command("sh", [&script, &inside, version]))
    })?;
    let out = cache.join(format!("out/{kind}"));
    log.run(Command::new("rm").arg("-rf").arg(&out))?;
    log.run(
        Command::new("cp")
            .arg("-r")
            .args([&outside.join("out"), &out]),
    )?;
    log.run(as_root("rm").arg("-rf").arg(&outside))?;
    say(&format!("   in {}", out.display()));
    Ok(())
}

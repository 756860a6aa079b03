// SPDX-License-Identifier: GPL-2.0-only
//! The Rust compiler that a kernel was built with: a module must be built by the very same.

use anyhow::{bail, Context as _, Result};

use crate::host::build::chroot::Chroot;
use crate::host::build::command::Log;

/// Installed together, from one source package, at one version.
const PACKAGES: [&str; 5] = [
    "rustc",
    "libstd-rust-dev",
    "rust-src",
    "rustfmt",
    "rust-clippy",
];

/// Installs the compiler that `config` (a kernel's `.config`) names, when it is not the one that is there.
///
/// # Errors
/// When the kernel has no Rust, or the archive no longer has its compiler.
pub fn ensure(root: &Chroot, log: &Log, config: &str) -> Result<()> {
    let wanted = wanted(config)?;
    if installed(root).as_deref() == Some(wanted) {
        return Ok(());
    }
    let offers = log.capture(&mut root.command("apt-cache", ["madison", "rustc"]))?;
    let package = candidate(&offers, wanted).with_context(|| {
        format!("this kernel was built with rustc {wanted}, which the archive does not have; it has:\n{offers}")
    })?;
    let pinned: Vec<String> = PACKAGES
        .iter()
        .map(|name| format!("{name}={package}"))
        .collect();
    root.install(log, &pinned, None)?;
    match installed(root) {
        Some(found) if found == wanted => Ok(()),
        found => bail!("installed rustc {package}, but rustc says it is {found:?}, not {wanted}"),
    }
}

/// The compiler's version, such as `1.85.1`, from `CONFIG_RUSTC_VERSION_TEXT`.
fn wanted(config: &str) -> Result<&str> {
    if !config.lines().any(|line| line == "CONFIG_RUST=y") {
        bail!("this kernel is built without CONFIG_RUST=y: no Rust module can be built for it");
    }
    let text = config
        .lines()
        .find_map(|line| line.strip_prefix("CONFIG_RUSTC_VERSION_TEXT=\"rustc "));
    let version = text.and_then(|text| text.split(' ').next());
    version.context(
        "the kernel's .config does not say which rustc built it (CONFIG_RUSTC_VERSION_TEXT)",
    )
}

/// The package version of that compiler among the lines of `apt-cache madison rustc`.
fn candidate<'a>(offers: &'a str, wanted: &str) -> Option<&'a str> {
    let versions = offers
        .lines()
        .filter_map(|line| line.split('|').nth(1))
        .map(str::trim);
    versions
        .into_iter()
        .find(|version| version.split(['+', '-', '~']).next() == Some(wanted))
}

fn installed(root: &Chroot) -> Option<String> {
    let output = root.command("rustc", ["--version"]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    text.split(' ').nth(1).map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_compiler_comes_from_the_config() {
        let config = "CONFIG_RUST=y\nCONFIG_RUSTC_VERSION_TEXT=\"rustc 1.85.1 (4eb161250 2025-03-15) (built from a source tarball)\"\n";
        assert_eq!(wanted(config).unwrap(), "1.85.1");
        assert!(wanted("# CONFIG_RUST is not set\n")
            .unwrap_err()
            .to_string()
            .contains("CONFIG_RUST=y"));
    }

    #[test]
    fn the_newest_is_not_the_right_one() {
        let offers = "     rustc | 1.96.1+dfsg1-2~bpo13+1 | http://deb trixie-backports/main amd64 Packages\n     \
            rustc | 1.85.1+dfsg1-1+deb13u1 | http://deb trixie/main amd64 Packages\n";
        assert_eq!(candidate(offers, "1.85.1"), Some("1.85.1+dfsg1-1+deb13u1"));
        assert_eq!(candidate(offers, "1.85"), None);
    }
}

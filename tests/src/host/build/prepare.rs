// SPDX-License-Identifier: GPL-2.0-only
//! The kernel tree that Rust modules are built against.
//!
//! The headers package has no Rust metadata, so these are made here, from the distribution's own source and
//! configuration, with the compiler the kernel was built with. Takes minutes, once per kernel release.

use anyhow::{bail, Context as _, Result};

use crate::host::build::cache::Cache;
use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, jobs};
use crate::host::build::kernel::Kernel;
use crate::host::build::progress::step;
use crate::host::build::rust_tools;

/// A tree that is ready for `make M=…`.
#[derive(Clone, Debug)]
pub struct Prepared {
    /// The tree, as seen from inside the root.
    pub tree: String,
    /// Where modules of this release are built, as seen from inside the root.
    pub work: String,
}

impl Prepared {
    /// The prepared tree of `kernel`, made when it is not there.
    ///
    /// # Errors
    /// When the compiler does not match, or the kernel's build fails: the message has the log's path.
    pub fn ensure(cache: &Cache, root: &Chroot, kernel: &Kernel) -> Result<Self> {
        let folder = format!("/build/{}", kernel.release);
        let prepared = Self {
            tree: format!("{folder}/linux"),
            work: folder.clone(),
        };
        // The build keeps absolute paths, so the tree is made where it stays; the mark is made last, and says that
        // the tree is whole. Anything without a mark is thrown away.
        let mark = format!("{folder}/ready-{}", kernel.version);
        if root.outside(&mark).exists() {
            return Ok(prepared);
        }
        let log = cache.log("prepare")?;
        let headers = kernel.headers_outside(cache, root);
        let path = headers.join(".config");
        let config = std::fs::read_to_string(&path)
            .with_context(|| format!("cannot read {}", path.display()))?;
        step("installing the compiler this kernel was built with", || {
            rust_tools::ensure(root, &log, &config)
        })?;
        log.run(as_root("rm").arg("-rf").arg(root.outside(&folder)))?;
        step("unpacking the kernel's source", || {
            let script = format!(
                "mkdir -p {folder}/linux && tar -xf {} -C {folder}/linux --strip-components=1",
                kernel.source(),
            );
            log.run(&mut root.command("sh", ["-c", &script]))?;
            let files = [".config", "Module.symvers"].map(|name| headers.join(name));
            log.run(as_root("cp").args(files).arg(root.outside(&prepared.tree)))
        })?;
        step(
            "making the kernel's Rust metadata (some minutes, once per kernel release)",
            || {
                let release = format!("KERNELRELEASE={}", kernel.release);
                let jobs = jobs();
                let make = ["-C", &prepared.tree, &release, &jobs, "modules_prepare"];
                log.run(root.command("make", make).args(kernel.arch.make()))
            },
        )?;
        // The kernel's own types, in BTF: what layouts of private structures are taken from.
        let types = headers.join("vmlinux");
        if !types.exists() {
            bail!(
                "{} is not in the headers package: layouts cannot be taken from this kernel's types",
                types.display()
            );
        }
        log.run(as_root("cp").arg(&types).arg(root.outside(&prepared.tree)))?;
        log.run(as_root("touch").arg(root.outside(&mark)))?;
        Ok(prepared)
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! Building kernel modules that are not part of the kernel, with the kernel's own build system.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::path::{Path, PathBuf};

use anyhow::{bail, Context as _, Result};
use serde_json::{json, Value};

use crate::host::build::cache::{self, Cache};
use crate::host::build::chroot::Chroot;
use crate::host::build::command::{as_root, jobs, Log};
use crate::host::build::kernel::Kernel;
use crate::host::build::progress::{say, step};

/// A module's source and what it is built against.
#[derive(Clone, Debug)]
pub struct Source {
    /// The folder with its `Kbuild`.
    pub folder: PathBuf,
    /// The module's name, without `.ko`.
    pub name: &'static str,
    /// The kernel tree, as seen from inside the root.
    pub tree: String,
    /// Not the module as it is, but a mutant with this name.
    pub mutant: Option<&'static str>,
    /// What make is told beside that.
    pub options: Vec<String>,
}

impl Source {
    /// Builds the module when its source changed since the last time.
    ///
    /// Returns the built `.ko`, whose vermagic is that of the kernel's own modules.
    ///
    /// # Errors
    /// When there is no source, the build fails, or the result would not load on this kernel.
    pub fn build(&self, cache: &Cache, root: &Chroot, kernel: &Kernel) -> Result<PathBuf> {
        if !self.folder.join("Kbuild").exists() {
            bail!(
                "{} is not there: nothing to build {}.ko from",
                self.folder.join("Kbuild").display(),
                self.name
            );
        }
        let out = out(cache, kernel)?.join(self.mutant.unwrap_or_default());
        std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
        let module = out.join(format!("{}.ko", self.name));
        let mark = out.join(format!("{}.source", self.name));
        let hash = self.hash(kernel)?;
        if module.exists() && std::fs::read_to_string(&mark).is_ok_and(|old| old == hash) {
            return Ok(module);
        }
        step(
            &format!(
                "building {}.ko{} for {}",
                self.name,
                self.mutant
                    .map_or(String::new(), |mutant| format!(" ({mutant})")),
                kernel.release
            ),
            || {
                let log = cache.log(self.name)?;
                let built = self.make(&log, root, kernel, self.name, &[])?;
                check_vermagic(root, &log, kernel, cache, &built)?;
                let half = out.join(format!("{}.half", self.name));
                std::fs::copy(&built, &half)
                    .with_context(|| format!("cannot copy {}", built.display()))?;
                std::fs::rename(&half, &module)
                    .with_context(|| format!("cannot rename {}", half.display()))?;
                cache::write(&mark, &hash)
            },
        )?;
        say(&format!("   {}", module.display()));
        Ok(module)
    }

    /// Builds the module's Rust with the kernel's own set of clippy's lints, where any warning is an error.
    ///
    /// # Errors
    /// When there is one; the log has it.
    pub fn lint(&self, cache: &Cache, root: &Chroot, kernel: &Kernel) -> Result<()> {
        let name = format!("{}-lints", self.name);
        let mark = out(cache, kernel)?.join(&name);
        let hash = self.hash(kernel)?;
        if std::fs::read_to_string(&mark).is_ok_and(|old| old == hash) {
            return Ok(());
        }
        step(&format!("linting {}.ko", self.name), || {
            let log = cache.log(&name)?;
            let options = ["CLIPPY=1", "KRUSTFLAGS=-Dwarnings"];
            self.make(&log, root, kernel, &name, &options)?;
            cache::write(&mark, &hash)
        })
    }

    /// Describes the module's crate and the kernel's for rust-analyzer, in a `rust-project.json` beside the source.
    ///
    /// The kernel's own script writes it, and passes over crates below the folder of the `Kbuild`; and it knows no root.
    ///
    /// # Errors
    /// When the kernel's script fails, or writes something else.
    pub fn describe_for_editors(
        &self,
        cache: &Cache,
        root: &Chroot,
        kernel: &Kernel,
    ) -> Result<PathBuf> {
        let log = cache.log("rust-analyzer")?;
        let inside = format!("/build/modules/{}-editors", self.name);
        let outside = root.outside(&inside);
        log.run(as_root("mkdir").arg("-p").arg(&outside))?;
        let folder = format!("M={inside}");
        let make = ["-C", &self.tree, &folder, "rust-analyzer"];
        let mut command = root.command("make", make);
        log.run(command.args(kernel.arch.make()).args(&self.options))?;
        let written = outside.join(EDITORS);
        let text = std::fs::read_to_string(&written)
            .with_context(|| format!("cannot read {}", written.display()))?;
        let mut project: Value = serde_json::from_str(&text)
            .with_context(|| format!("{} is no JSON", written.display()))?;
        move_paths(&mut project, root);
        let crates = project.get_mut("crates").and_then(Value::as_array_mut);
        let crates = crates.with_context(|| format!("{} has no crates", written.display()))?;
        crates.push(self.crate_among(crates));
        let target = self.folder.join(EDITORS);
        cache::write(&target, &project.to_string())?;
        Ok(target)
    }

    /// The module's crate, which may use what the kernel's modules may use.
    fn crate_among(&self, crates: &[Value]) -> Value {
        let is_named = |one: &Value, name: &str| one.get("display_name") == Some(&name.into());
        let usable = ["core", "macros", "kernel", "ffi", "bindings", "pin_init"];
        let numbers = usable.iter().filter_map(|name| {
            let number = crates.iter().position(|one| is_named(one, name))?;
            Some(json!({ "crate": number, "name": name }))
        });
        let kernel = crates.iter().find(|one| is_named(one, "kernel"));
        let cfg = kernel.and_then(|kernel| kernel.get("cfg")).cloned();
        json!({
            "display_name": self.name,
            "root_module": self.folder.join("src").join(format!("{}.rs", self.name)),
            "edition": "2021",
            "deps": numbers.collect::<Vec<_>>(),
            "cfg": cfg.unwrap_or_else(|| json!([])),
            "env": { "RUST_MODFILE": self.name },
            "is_workspace_member": true,
        })
    }

    /// Builds a copy of the source in the folder `name` of the root, so that the checkout stays as it is.
    fn make(
        &self,
        log: &Log,
        root: &Chroot,
        kernel: &Kernel,
        name: &str,
        options: &[&str],
    ) -> Result<PathBuf> {
        let inside = format!("/build/modules/{name}");
        let outside = root.outside(&inside);
        log.run(as_root("rm").arg("-rf").arg(&outside))?;
        log.run(as_root("mkdir").arg("-p").arg(&outside))?;
        log.run(
            as_root("cp")
                .args(["-r", "--no-preserve=ownership"])
                .arg(self.folder.join("."))
                .arg(&outside),
        )?;
        let (folder, release) = (
            format!("M={inside}"),
            format!("KERNELRELEASE={}", kernel.release),
        );
        let jobs = jobs();
        let make = ["-C", &self.tree, &folder, &release, &jobs, "modules"];
        let mut command = root.command("make", make);
        command.args(kernel.arch.make());
        log.run(command.args(&self.options).args(options))?;
        let module = outside.join(format!("{}.ko", self.name));
        if !module.exists() {
            bail!(
                "the build made no {}; log: {}",
                module.display(),
                log.path().display()
            );
        }
        Ok(module)
    }

    /// Everything the result depends on: each file's name and content, and the kernel's version.
    fn hash(&self, kernel: &Kernel) -> Result<String> {
        let mut hasher = DefaultHasher::new();
        (&kernel.release, &kernel.version, &self.tree, &self.options).hash(&mut hasher);
        let mut files = Vec::new();
        list(&self.folder, &mut files)?;
        files.sort();
        for file in files {
            let content =
                std::fs::read(&file).with_context(|| format!("cannot read {}", file.display()))?;
            (file.strip_prefix(&self.folder).unwrap_or(&file), content).hash(&mut hasher);
        }
        Ok(format!("{:016x}", hasher.finish()))
    }
}

/// Makes each path in the root one outside of it.
fn move_paths(value: &mut Value, root: &Chroot) {
    match value {
        Value::String(text) if text.starts_with("/build/") || text.starts_with("/usr") => {
            *text = root.outside(text.as_str()).display().to_string();
        }
        Value::Array(list) => list.iter_mut().for_each(|one| move_paths(one, root)),
        Value::Object(map) => map.values_mut().for_each(|one| move_paths(one, root)),
        _ => {}
    }
}

/// The folder for what is built for `kernel`.
fn out(cache: &Cache, kernel: &Kernel) -> Result<PathBuf> {
    let out = cache.join("out").join(&kernel.release);
    std::fs::create_dir_all(&out).with_context(|| format!("cannot make {}", out.display()))?;
    Ok(out)
}

/// What editors read of the module, and nothing is built from.
const EDITORS: &str = "rust-project.json";

/// Every file below `folder` that something is built from.
///
/// # Errors
/// When one cannot be read.
pub fn list(folder: &Path, files: &mut Vec<PathBuf>) -> Result<()> {
    let entries =
        std::fs::read_dir(folder).with_context(|| format!("cannot read {}", folder.display()))?;
    for entry in entries {
        let path = entry
            .with_context(|| format!("cannot read {}", folder.display()))?
            .path();
        if path.is_dir() {
            list(&path, files)?;
        } else if path.file_name().is_some_and(|name| name != EDITORS) {
            files.push(path);
        }
    }
    Ok(())
}

/// A module with another vermagic is refused by the kernel with "Invalid module format", long after the mistake.
fn check_vermagic(
    root: &Chroot,
    log: &Log,
    kernel: &Kernel,
    cache: &Cache,
    module: &Path,
) -> Result<()> {
    let of = |path: &Path| {
        log.capture(
            root.tool("usr/sbin/modinfo")
                .args(["-F", "vermagic"])
                .arg(path),
        )
    };
    let folder = kernel.modules(cache);
    let list = std::fs::read_to_string(folder.join("modules.dep"))
        .with_context(|| format!("cannot read modules.dep in {}", folder.display()))?;
    // Which one makes no difference.
    let stock = list.lines().find_map(|line| line.split(':').next());
    let stock = stock.with_context(|| format!("no module in {}", folder.display()))?;
    let (ours, theirs) = (of(module)?, of(&folder.join(stock))?);
    if ours.trim() != theirs.trim()
        || ours.split_whitespace().next() != Some(kernel.release.as_str())
    {
        let (ours, theirs) = (ours.trim(), theirs.trim());
        bail!(
            "{} has vermagic `{ours}`, the modules of {} have `{theirs}`",
            module.display(),
            kernel.release
        );
    }
    Ok(())
}

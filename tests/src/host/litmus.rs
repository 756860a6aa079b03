// SPDX-License-Identifier: GPL-2.0-only
//! The litmus tests: each is run by `herd7` against the kernel's own memory model, from the kernel's source.
//!
//! Each says in its first comment what it should give, as those of the kernel do: `Never` for what the module relies
//! on, `Sometimes` for the same with one barrier less, which shows that the barrier is what forbids it.

use std::path::{Path, PathBuf};

use anyhow::{bail, Context as _, Result};

use crate::host::build::cache::Cache;
use crate::host::build::chroot::{self, Chroot};
use crate::host::build::command::{as_root, Log};
use crate::host::build::prepare::Prepared;
use crate::host::build::progress::{say, step};
use crate::host::build::toolchain::Toolchain;

/// `herd7` is packaged from this suite on. It brings its own C library, so it is unpacked beside the root's programs.
const SUITE: &str = "testing";
const PACKAGES: [&str; 3] = ["herdtools7", "libc6", "libgmp10"];
/// Where, as seen from inside the root.
const FOLDER: &str = "/opt/herd";

/// Runs all tests of the checkout.
///
/// # Errors
/// When `herd7` cannot be fetched or run, or a test gives something else than it should.
pub fn run(checkout: &Path) -> Result<()> {
    let toolchain = Toolchain::ensure()?;
    let model = toolchain.prepare()?;
    let log = toolchain.cache.log("litmus")?;
    let herd = Herd::ensure(&toolchain.cache, &toolchain.root, &model, &log)?;
    let tests = tests(&checkout.join("tests/litmus"))?;
    let mut wrong = Vec::new();
    for test in &tests {
        let (wanted, found) = (wanted(test)?, herd.observe(&log, test)?);
        let name = test.file_stem().unwrap_or_default().to_string_lossy();
        if wanted == found {
            say(&format!("   {name}: {found}"));
        } else {
            wrong.push(format!("{name}: {found}, and should be {wanted}"));
        }
    }
    if !wrong.is_empty() {
        bail!("{}; log: {}", wrong.join("; "), log.path().display());
    }
    Ok(())
}

struct Herd {
    folder: PathBuf,
    model: PathBuf,
}

impl Herd {
    fn ensure(cache: &Cache, root: &Chroot, kernel: &Prepared, log: &Log) -> Result<Self> {
        let herd = Self {
            folder: root.outside(FOLDER),
            model: root.outside(&kernel.tree).join("tools/memory-model"),
        };
        if herd.folder.exists() {
            return Ok(herd);
        }
        let _lock = cache.lock()?;
        step(&format!("fetching herd7 from Debian {SUITE}"), || {
            root.refresh_resolver(log)?;
            let source = chroot::source(SUITE);
            // With lists of its own: what the root installs shall not come from this suite. They are signed, but may be
            // old, as on a mirror that lags behind: any version will do.
            let script = format!(
                "rm -rf {FOLDER} {FOLDER}.half && mkdir -p {FOLDER}.half/lists/partial && cd {FOLDER}.half && \
                 printf '%s\\n' \"$1\" > sources.list && shift && \
                 own() {{ apt-get -o Dir::Etc::SourceList=$PWD/sources.list -o Dir::Etc::SourceParts=- \
                   -o Dir::State::Lists=$PWD/lists -o Dir::State::Status=/dev/null -o Dir::Cache::pkgcache= \
                   -o Dir::Cache::srcpkgcache= -o APT::Update::Error-Mode=any \
                   -o Acquire::Check-Valid-Until=false \"$@\"; }} && \
                 own update && own download \"$@\" && \
                 for deb in *.deb; do dpkg-deb -x \"$deb\" . || exit 1; done && \
                 rm -rf lists *.deb && mv {FOLDER}.half {FOLDER}"
            );
            let mut arguments = vec!["-c", &script, "sh", &source];
            arguments.extend(PACKAGES);
            log.run(&mut root.command("sh", &arguments))?;
            log.run(as_root("chmod").args(["-R", "a+rX"]).arg(&herd.folder))
        })?;
        Ok(herd)
    }

    /// What the model says of the condition of `test`: `Never`, `Sometimes` or `Always`.
    fn observe(&self, log: &Log, test: &Path) -> Result<String> {
        let libraries = self.folder.join("usr/lib/x86_64-linux-gnu");
        let mut command = std::process::Command::new(libraries.join("ld-linux-x86-64.so.2"));
        command
            .current_dir(&self.model)
            .arg("--library-path")
            .arg(&libraries)
            .arg(self.folder.join("usr/bin/herd7"))
            .arg("-set-libdir")
            .arg(self.folder.join("usr/share/herdtools7/herd"))
            .args(["-conf", "linux-kernel.cfg"])
            .arg(test);
        let text = log.capture(&mut command)?;
        let observation = text
            .lines()
            .find_map(|line| line.strip_prefix("Observation "));
        let word = observation.and_then(|rest| rest.split(' ').nth(1));
        let word =
            word.with_context(|| format!("herd7 says nothing of {}:\n{text}", test.display()))?;
        Ok(word.to_owned())
    }
}

fn tests(folder: &Path) -> Result<Vec<PathBuf>> {
    let context = || format!("cannot read {}", folder.display());
    let mut tests = Vec::new();
    for entry in std::fs::read_dir(folder).with_context(context)? {
        let path = entry.with_context(context)?.path();
        if path
            .extension()
            .is_some_and(|extension| extension == "litmus")
        {
            tests.push(path);
        }
    }
    if tests.is_empty() {
        bail!("no litmus test in {}", folder.display());
    }
    tests.sort();
    Ok(tests)
}

fn wanted(test: &Path) -> Result<String> {
    let text =
        std::fs::read_to_string(test).with_context(|| format!("cannot read {}", test.display()))?;
    let result = text
        .lines()
        .find_map(|line| line.trim_start().strip_prefix("* Result: "));
    let result =
        result.with_context(|| format!("{} does not say what it should give", test.display()))?;
    Ok(result.to_owned())
}

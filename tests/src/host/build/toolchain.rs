// SPDX-License-Identifier: GPL-2.0-only
//! Everything that must be there before a virtual machine can start, made in order, each only when it is not there.

use std::path::PathBuf;

use anyhow::{bail, Context as _, Result};

use crate::host::build::arch::Arch;
use crate::host::build::cache::Cache;
use crate::host::build::chroot::{Chroot, Release};
use crate::host::build::command::Log;
use crate::host::build::cross;
use crate::host::build::debug_kernel::{DebugKernel, Watch};
use crate::host::build::host_packages;
use crate::host::build::kbuild::Source;
use crate::host::build::kernel::Kernel;
use crate::host::build::prepare::Prepared;
use crate::host::build::progress::say;
use crate::host::build::userspace::{checkout, Programs};
use crate::host::mutants::Mutant;
use crate::host::vm::initramfs::Contents;

/// The module under test.
const MODULE: &str = "iommu_live";
/// The test module that shows what a device can reach.
const ORACLE: &str = "iommuctl_oracle";

/// Which kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flavour {
    /// The distribution's own.
    Stock,
    /// Another build of the same: `rt`, `cloud`, `16k`.
    Variant(&'static str),
    /// The newest of the series before.
    Previous,
    /// That of the stable release itself, without backports.
    Stable,
    /// That of the next release, built by its compilers.
    Testing,
    /// One that watches itself, with hold points.
    Debug(Watch),
}

/// A root with its tools, and a kernel.
#[derive(Clone, Debug)]
pub struct Toolchain {
    /// The cache.
    pub cache: Cache,
    /// The Debian in it, whose programs are run.
    pub root: Chroot,
    /// The one in which modules are built: with the compilers that go with the kernel.
    builder: Chroot,
    /// The kernel that everything is built for.
    pub kernel: Kernel,
    /// What is only true of a debug kernel.
    debug: Option<DebugKernel>,
}

/// What a virtual machine boots.
#[derive(Clone, Debug)]
pub struct Boot {
    /// The kernel image.
    pub kernel: PathBuf,
    /// The initramfs.
    pub initramfs: PathBuf,
}

impl Toolchain {
    /// Makes or finds the root and the kernel.
    ///
    /// # Errors
    /// When a package or a tool is missing and cannot be fetched.
    pub fn ensure() -> Result<Self> {
        let cache = Cache::open()?;
        let _lock = cache.lock()?;
        let root = Chroot::ensure(&cache, Release::Stable, || host_packages::ensure(&cache))?;
        let kernel = Kernel::ensure(&cache, &root)?;
        say(&format!(
            "   kernel {} (package version {})",
            kernel.release, kernel.version
        ));
        Ok(Self {
            cache,
            builder: root.clone(),
            root,
            kernel,
            debug: None,
        })
    }

    /// The same, for one of the kernels of an architecture.
    ///
    /// # Errors
    /// As [`Toolchain::ensure`], and when a debug kernel does not build.
    pub fn of(arch: Arch, flavour: Flavour) -> Result<Self> {
        let mut stock = Self::ensure()?;
        if arch != stock.kernel.arch {
            stock = stock.with(|stock, log| {
                cross::ensure(&stock.root, log, arch)?;
                stock.kernel.on(arch)
            })?;
        }
        let watch = match flavour {
            Flavour::Stock => return Ok(stock),
            Flavour::Variant(name) => return stock.with(|stock, _| stock.kernel.variant(name)),
            Flavour::Previous => {
                return stock.with(|stock, log| Kernel::previous(&stock.root, log, &stock.kernel))
            }
            Flavour::Stable => return stock.with(|stock, log| Kernel::stable(&stock.root, log)),
            Flavour::Testing => return stock.with_other_compilers(Release::Testing),
            Flavour::Debug(_) if stock.kernel.is_foreign() => {
                bail!("kernels that watch themselves are built for the test bed's own architecture only")
            }
            Flavour::Debug(watch) => watch,
        };
        // It shares the compiler and the source with the stock kernel's tree.
        stock.prepare()?;
        let _lock = stock.cache.lock()?;
        let debug = DebugKernel::ensure(&stock.cache, &stock.root, &stock.kernel, watch)?;
        Ok(Self {
            kernel: debug.kernel.clone(),
            debug: Some(debug),
            ..stock
        })
    }

    /// The same with another of the distribution's kernels.
    fn with(self, choose: impl FnOnce(&Self, &Log) -> Result<Kernel>) -> Result<Self> {
        let _lock = self.cache.lock()?;
        let log = self.cache.log("kernel")?;
        let kernel = choose(&self, &log)?;
        say(&format!("   kernel {}", kernel.release));
        let headers = kernel.headers_outside(&self.cache, &self.root);
        if !kernel.image(&self.cache).exists() || !headers.exists() {
            kernel.fetch(&self.cache, &self.root, &log)?;
        }
        Ok(Self { kernel, ..self })
    }

    /// The same with the newest kernel of another release.
    fn with_other_compilers(self, release: Release) -> Result<Self> {
        let _lock = self.cache.lock()?;
        let builder = Chroot::ensure(&self.cache, release, || host_packages::ensure(&self.cache))?;
        let kernel = Kernel::ensure(&self.cache, &builder)?;
        say(&format!("   kernel {}", kernel.release));
        Ok(Self {
            builder,
            kernel,
            ..self
        })
    }

    /// Builds `iommu_live.ko` from the checkout.
    ///
    /// # Errors
    /// When the kernel cannot be prepared, or the module does not build.
    pub fn module(&self) -> Result<PathBuf> {
        let _lock = self.cache.lock()?;
        self.module_source()?
            .build(&self.cache, &self.builder, &self.kernel)
    }

    /// Checks the Rust of `iommu_live.ko` with clippy, as the kernel's own Rust is.
    ///
    /// # Errors
    /// When the kernel cannot be prepared, or there is a warning.
    pub fn lint_module(&self) -> Result<()> {
        let _lock = self.cache.lock()?;
        self.module_source()?
            .lint(&self.cache, &self.builder, &self.kernel)
    }

    /// Describes the module's crate for editors.
    ///
    /// # Errors
    /// When the kernel cannot be prepared, or its script fails.
    pub fn describe_module(&self) -> Result<PathBuf> {
        let _lock = self.cache.lock()?;
        self.module_source()?
            .describe_for_editors(&self.cache, &self.builder, &self.kernel)
    }

    /// The kernel's source, prepared for building modules.
    ///
    /// # Errors
    /// When it cannot be prepared.
    pub fn prepare(&self) -> Result<Prepared> {
        let _lock = self.cache.lock()?;
        Prepared::ensure(&self.cache, &self.builder, &self.kernel)
    }

    fn module_source(&self) -> Result<Source> {
        let tree = match &self.debug {
            Some(debug) => debug.tree.clone(),
            None => Prepared::ensure(&self.cache, &self.builder, &self.kernel)?.tree,
        };
        Ok(Source {
            folder: checkout()?.join("kmod"),
            name: MODULE,
            tree,
            mutant: None,
            options: self.options(),
        })
    }

    /// Builds `iommu_live.ko` with a mistake in it.
    fn mutant(&self, mutant: &'static Mutant) -> Result<PathBuf> {
        let _lock = self.cache.lock()?;
        let folder = tempfile::Builder::new()
            .prefix(mutant.name)
            .tempdir_in(self.cache.join("run"))
            .context("cannot make a folder for a mutant")?;
        mutant.write(folder.path())?;
        let source = Source {
            folder: folder.path().to_owned(),
            mutant: Some(mutant.name),
            ..self.module_source()?
        };
        source.build(&self.cache, &self.builder, &self.kernel)
    }

    fn options(&self) -> Vec<String> {
        let debug = self.debug.iter();
        debug.map(|debug| debug.llvm.clone()).collect()
    }

    /// Builds the oracle: plain C, for which the headers package is enough, where it can be installed.
    ///
    /// # Errors
    /// When it does not build.
    pub fn oracle(&self) -> Result<PathBuf> {
        let _lock = self.cache.lock()?;
        let folder = checkout()?.join("tests/oracle");
        let tree = match &self.debug {
            Some(debug) => debug.tree.clone(),
            None if self.kernel.is_foreign() => {
                Prepared::ensure(&self.cache, &self.builder, &self.kernel)?.tree
            }
            None => self.kernel.headers(),
        };
        let source = Source {
            folder,
            name: ORACLE,
            tree,
            mutant: None,
            options: self.options(),
        };
        source.build(&self.cache, &self.builder, &self.kernel)
    }

    /// Builds everything a virtual machine needs; without `iommu_live.ko` when `with_module` is false.
    ///
    /// # Errors
    /// When anything does not build.
    pub fn boot(&self, with_module: bool) -> Result<Boot> {
        let mut modules = vec![self.oracle()?];
        if with_module {
            modules.push(self.module()?);
        }
        self.pack(&modules, with_module)
    }

    /// The same, with a mutant in place of the module.
    ///
    /// # Errors
    /// When anything does not build, or the mutant's patch does not fit.
    pub fn boot_mutant(&self, mutant: &'static Mutant) -> Result<Boot> {
        self.pack(&[self.oracle()?, self.mutant(mutant)?], true)
    }

    fn pack(&self, modules: &[PathBuf], with_module: bool) -> Result<Boot> {
        let programs = Programs::build(&self.cache, &checkout()?, self.kernel.arch)?;
        let kind = if with_module { "-module" } else { "" };
        let name = format!("initramfs-{}{kind}.cpio", self.kernel.release);
        let initramfs = self.cache.join("run").join(name);
        let contents = Contents {
            cache: &self.cache,
            root: &self.root,
            kernel: &self.kernel,
            programs: &programs,
            modules,
        };
        contents.write(&initramfs)?;
        Ok(Boot {
            kernel: self.kernel.image(&self.cache),
            initramfs,
        })
    }
}

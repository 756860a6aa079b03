// SPDX-License-Identifier: GPL-2.0-only
//! A machine made of plain files, and the program run on it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

/// `tests/NAME` of this package.
pub fn tests_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// A copy of a fixture that a test can change.
pub struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    pub fn new(fixture: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        copy(&tests_dir("fixtures").join(fixture), dir.path());
        Self { dir }
    }

    pub fn laptop() -> Self {
        Self::new("laptop")
    }

    /// The same machine with the module loaded.
    pub fn with_module(self) -> Self {
        copy(&tests_dir("fixtures/module"), &self.dir.path().join("sys"));
        self
    }

    /// The path of something in its sysfs.
    pub fn sys(&self, path: &str) -> PathBuf {
        self.dir.path().join("sys").join(path)
    }

    /// The type attribute of a group.
    pub fn type_file(&self, group: u32) -> PathBuf {
        self.sys(&format!("kernel/iommu_groups/{group}/type"))
    }

    pub fn type_of(&self, group: u32) -> String {
        fs::read_to_string(self.type_file(group)).unwrap()
    }

    /// The program on this machine, with the names of the fixture.
    pub fn command(&self, args: &[&str]) -> Command {
        let mut command = self.bare_command();
        command
            .arg("--pci-ids")
            .arg(tests_dir("fixtures/pci.ids"))
            .args(args);
        command
    }

    /// The program on this machine, without arguments.
    pub fn bare_command(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iommuctl"));
        command
            .env("IOMMUCTL_SYSFS_ROOT", self.dir.path().join("sys"))
            .env("IOMMUCTL_PROC_ROOT", self.dir.path().join("proc"))
            .env_remove("NO_COLOR")
            .env_remove("CLICOLOR_FORCE")
            .stdin(Stdio::null());
        command
    }

    pub fn run(&self, args: &[&str]) -> Run {
        Run::of(self.command(args).output().unwrap(), self.dir.path())
    }
}

/// What a run of the program left.
#[derive(Debug)]
pub struct Run {
    pub code: i32,
    pub out: String,
    pub err: String,
}

impl Run {
    fn of(output: Output, root: &Path) -> Self {
        // Messages name files, and the folder is another one each time.
        let text = |bytes: Vec<u8>| {
            let text = String::from_utf8(bytes).unwrap();
            text.replace(&root.display().to_string(), "")
        };
        Self {
            code: output
                .status
                .code()
                .unwrap_or_else(|| panic!("ended by a signal: {}", output.status)),
            out: text(output.stdout),
            err: text(output.stderr),
        }
    }

    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.out).unwrap_or_else(|e| panic!("{e}: {self:?}"))
    }

    /// The numbers of the groups in the document.
    pub fn groups(&self) -> Vec<u64> {
        let document = self.json();
        let list = document.get("groups").or_else(|| document.get("results"));
        let list = list
            .and_then(|l| l.as_array())
            .unwrap_or_else(|| panic!("{self:?}"));
        list.iter().filter_map(|g| g["group"].as_u64()).collect()
    }
}

/// Copies a tree, links as links.
fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let (source, target) = (entry.path(), to.join(entry.file_name()));
        let kind = entry.file_type().unwrap();
        if kind.is_symlink() {
            symlink(fs::read_link(&source).unwrap(), &target).unwrap();
        } else if kind.is_dir() {
            copy(&source, &target);
        } else {
            // Not fs::copy: the fixtures may be read-only, and their copies must not be.
            fs::write(&target, fs::read(&source).unwrap()).unwrap();
        }
    }
}

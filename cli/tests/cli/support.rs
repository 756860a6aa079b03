// SPDX-License-Identifier: GPL-2.0-only
//! A machine made of plain files, and the program run on it.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{symlink, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use flate2::write::GzEncoder;
use flate2::Compression;

/// `tests/NAME` of this package.
pub fn tests_dir(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests")
        .join(name)
}

/// A machine of the fixtures, which a test can change.
pub struct Machine {
    dir: tempfile::TempDir,
}

impl Machine {
    pub fn new(fixture: &str) -> Self {
        let dir = scratch();
        plant(
            &tests_dir("fixtures").join(format!("{fixture}.tree")),
            dir.path(),
        );
        fs::create_dir(dir.path().join("run")).unwrap();
        Self { dir }
    }

    pub fn laptop() -> Self {
        Self::new("laptop")
    }

    /// The same machine with the module loaded.
    pub fn with_module(self) -> Self {
        plant(&tests_dir("fixtures/module.tree"), self.dir.path());
        self
    }

    /// The same with a module that says what it is doing behind those who were answered. Strict since: in nanoseconds.
    pub fn with_cleanups(self, since: u128) -> Self {
        let tail = "late_comers=2 collected=2 given_up=0";
        let lines = format!(
            "group=12 step=armed strict_since_ns={since} {tail}\n\
             group=14 step=restored strict_since_ns=0 {tail} cpu=3\nmore=3\n"
        );
        let values = [
            ("audit", "audited\n"),
            ("cleaned_up", "11\n"),
            ("cleanups", &lines),
            ("collected", "2\n"),
            ("given_up", "0\n"),
            ("late_comers", "2\n"),
            ("longest_hold_ns", "91234\n"),
            ("tripped", "0\n"),
        ];
        for (name, text) in values {
            self.file(&format!("sys/kernel/iommu_live/{name}"), text);
        }
        self
    }

    /// The path of something in its sysfs.
    pub fn sys(&self, path: &str) -> PathBuf {
        self.dir.path().join("sys").join(path)
    }

    /// The path of something in its `/run/iommuctl`.
    pub fn run_dir(&self, path: &str) -> PathBuf {
        self.dir.path().join("run/iommuctl").join(path)
    }

    /// Makes a file in its `/var/lib/iommuctl`.
    pub fn state_file(&self, name: &str, text: &str) {
        let file = self.file(&format!("var/lib/iommuctl/{name}"), text);
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// Leaves a journal of a rebind of one device, as a killed process does.
    pub fn leave_journal(&self, group: u32, device: &str, driver: &str) {
        let plan = serde_json::json!({
            "group": group,
            "request": "identity",
            "old_type": "DMA-FQ",
            "subjects": [{
                "name": device,
                "path": format!("devices/pci0000:00/{device}"),
                "bus": "pci",
                "driver": driver,
                "module": driver,
                "driver_override": "empty",
                "offers": { "blocks": 0, "interfaces": 0 },
            }],
        });
        let begin = serde_json::json!({ "version": 1, "plan": plan });
        let text = format!("{begin}\n{{\"step\":{{\"unbind\":0}}}}\n");
        self.leave(&format!("rebind-{group}"), &text);
    }

    /// Leaves a journal of a bench that had changed the type of a group with this device, as two killed processes do.
    pub fn leave_bench(&self, group: u32, original: &str, device: &str) {
        let journal = serde_json::json!({
            "version": 1,
            "group": group,
            "original": original,
            "switched": true,
            "devices": [format!("devices/pci0000:00/{device}")],
            "bench": 1,
            "guard": 1,
        });
        self.leave(&format!("bench-{group}"), &journal.to_string());
    }

    /// Leaves a file in its `/run/iommuctl`.
    fn leave(&self, name: &str, text: &str) {
        let folder = self.run_dir("");
        fs::create_dir_all(&folder).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o700)).unwrap();
        let path = self.run_dir(name);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// The path of something in its procfs.
    pub fn proc(&self, path: &str) -> PathBuf {
        self.dir.path().join("proc").join(path)
    }

    /// The path of something under its root.
    pub fn root(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    /// Makes a file under its root, and the folders above it, which nobody else can write.
    pub fn file(&self, path: &str, text: &str) -> PathBuf {
        let mut folder = self.dir.path().to_owned();
        let (folders, _) = path.rsplit_once('/').unwrap();
        for name in folders.split('/') {
            folder.push(name);
            if !folder.is_dir() {
                fs::create_dir(&folder).unwrap();
                fs::set_permissions(&folder, fs::Permissions::from_mode(0o755)).unwrap();
            }
        }
        let file = self.root(path);
        fs::write(&file, text).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
        file
    }

    /// The same machine with this policy.
    pub fn with_policy(self, text: &str) -> Self {
        self.file("etc/iommuctl/policy.d/50-site.yaml", text);
        self
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

    /// The flags that say where this machine is.
    pub fn roots(&self) -> Vec<String> {
        let path = |name: &str| self.dir.path().join(name).display().to_string();
        [
            ("--sysfs-root", "sys"),
            ("--proc-root", "proc"),
            ("--root", ""),
        ]
        .map(|(flag, name)| [flag.to_owned(), path(name)])
        .concat()
    }

    /// The program on this machine, without arguments.
    pub fn bare_command(&self) -> Command {
        let mut command = self.command_without_programs();
        command.arg("--run-programs");
        command
    }

    /// The same, where it runs no other program below the root.
    pub fn command_without_programs(&self) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_iommuctl"));
        command
            .args(self.roots())
            .env("TZ", "UTC")
            .env("LC_ALL", "C")
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

/// A folder in memory where there is one: a machine has hundreds of files, which are all removed again.
///
/// Its path is as long as those in `/tmp`: tables are as wide as the paths in them.
fn scratch() -> tempfile::TempDir {
    let in_memory = tempfile::Builder::new()
        .prefix("")
        .rand_bytes(6)
        .tempdir_in("/dev/shm");
    in_memory.or_else(|_| tempfile::tempdir()).unwrap()
}

/// Makes the tree that a file of `fixtures` describes, one thing on a line:
///
/// ```text
/// path/             a directory
/// path: text        a file with this line
/// path:             a file with the lines that follow, each after "| "
/// path -> target    a symbolic link
/// ```
///
/// A file whose name ends in `.gz` is compressed.
fn plant(description: &Path, root: &Path) {
    let text = fs::read_to_string(description).unwrap();
    let mut lines = text.lines().filter(|l| !l.starts_with('#')).peekable();
    while let Some(line) = lines.next() {
        if let Some(directory) = line.strip_suffix('/') {
            fs::create_dir_all(root.join(directory)).unwrap();
        } else if let Some((path, target)) = line.split_once(" -> ") {
            symlink(target, place(root, path)).unwrap();
        } else if let Some((path, text)) = line.split_once(": ") {
            write(&place(root, path), &format!("{text}\n"));
        } else if let Some(path) = line.strip_suffix(':') {
            let mut text = String::new();
            while let Some(line) = lines.next_if(|l| l.starts_with("| ")) {
                text.extend([&line[2..], "\n"]);
            }
            write(&place(root, path), &text);
        } else {
            panic!("{}: what is `{line}`?", description.display());
        }
    }
}

fn place(root: &Path, path: &str) -> PathBuf {
    let place = root.join(path);
    fs::create_dir_all(place.parent().unwrap()).unwrap();
    place
}

fn write(path: &Path, text: &str) {
    if path.extension().is_some_and(|e| e == "gz") {
        let file = fs::File::create(path).unwrap();
        let mut encoder = GzEncoder::new(file, Compression::fast());
        encoder.write_all(text.as_bytes()).unwrap();
        encoder.finish().unwrap();
    } else {
        fs::write(path, text).unwrap();
    }
}

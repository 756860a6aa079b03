// SPDX-License-Identifier: GPL-2.0-only
//! The audit on a kernel that really switches: who is named, what is found when nobody told, and what happens when nothing
//! can be recorded.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure, Context as _, Result};
use nix::mount::{mount, umount, MsFlags};
use nix::sys::signal::{kill, Signal};
use nix::unistd::Pid;
use serde_json::Value;

use super::reports::as_nobody;
use super::{disk, load_live, policy, set_mode, write_type, Scenarios};
use crate::guest::bench::Bench;
use crate::guest::cli::{self, PROGRAM};
use crate::guest::{modules, pci};

/// The scenarios of this file.
pub const SCENARIOS: Scenarios = &[
    ("audit-who", who),
    ("audit-found", found),
    ("audit-unrecorded", unrecorded),
    ("audit-flood", flood),
];

const LOG: &str = "/var/log/iommuctl/audit.jsonl";
/// How many writes a second make a flood.
const EACH_SECOND: u128 = 10_000;
const FOLDERS: [&str; 2] = ["/var/log", "/var/lib"];
const HEAD: &str = "/var/lib/iommuctl/audit-head.json";
const SETTINGS: &str = "/etc/iommuctl/audit.yaml";

/// The recorder, running.
struct Recorder(Child);

impl Recorder {
    /// Starts it, and waits until it listens and knows all groups.
    fn start(arguments: &[&str]) -> Result<Self> {
        let before = events().unwrap_or_default().len();
        let notes = notes("started");
        let mut command = Command::new(PROGRAM);
        command.args(["audit", "record"]).args(arguments);
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn();
        let recorder = Self(child.context("cannot start the recorder")?);
        until("the recorder is ready", || {
            Ok(self::notes("started") > notes
                && (before > 0 || events()?.len() >= pci::groups()?.len()))
        })?;
        // What it does not know yet, it looks for right after its start.
        std::thread::sleep(Duration::from_millis(500));
        Ok(recorder)
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = Pid::from_raw(i32::try_from(self.0.id())?);
        kill(pid, signal).with_context(|| format!("cannot send {signal}"))
    }

    fn stop(mut self) -> Result<String> {
        self.signal(Signal::SIGTERM)?;
        let status = self.0.wait().context("cannot wait for the recorder")?;
        ensure!(status.success(), "the recorder ended with {status}");
        Ok("ended with 0".to_owned())
    }

    /// What it keeps in memory, in KiB.
    fn memory(&self) -> Result<u64> {
        let path = format!("/proc/{}/status", self.0.id());
        let text = fs::read_to_string(&path)?;
        let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let number = line.and_then(|line| line.split_whitespace().next());
        Ok(number
            .with_context(|| format!("{path} has no VmRSS"))?
            .parse()?)
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        // When a check failed on the way.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn until(what: &str, mut is: impl FnMut() -> Result<bool>) -> Result<()> {
    let begin = Instant::now();
    while !is()? {
        if begin.elapsed() > Duration::from_secs(30) {
            bail!("waited in vain until {what}");
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    Ok(())
}

/// An empty log, on a file system of its own. Taken away again in the end: other scenarios have none.
struct Fresh;

impl Fresh {
    fn new(options: &str) -> Result<Self> {
        for folder in ["/var/log", "/var/lib", "/etc/iommuctl"] {
            fs::create_dir_all(folder)?;
        }
        for folder in ["/", "/var", "/etc", "/etc/iommuctl"] {
            fs::set_permissions(folder, fs::Permissions::from_mode(0o755))?;
        }
        for folder in FOLDERS {
            let flags = MsFlags::empty();
            mount(Some("tmpfs"), folder, Some("tmpfs"), flags, Some(options))
                .with_context(|| format!("cannot mount {folder}"))?;
        }
        Ok(Self)
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        for folder in FOLDERS {
            // The next scenario will say so if that did not work.
            let _ = umount(folder);
            let _ = fs::remove_dir(folder);
        }
    }
}

/// All records of changes, as they are in the log.
fn events() -> Result<Vec<Value>> {
    let text = fs::read_to_string(LOG).with_context(|| format!("cannot read {LOG}"))?;
    let lines = text.lines().map(serde_json::from_str::<Value>);
    let records: Vec<Value> = lines.collect::<Result<_, _>>()?;
    let events = records.into_iter().filter_map(|r| r.get("event").cloned());
    Ok(events.collect())
}

/// How many notes there are about something.
fn notes(about: &str) -> usize {
    let text = fs::read_to_string(LOG).unwrap_or_default();
    text.matches(&format!("\"about\":\"{about}\"")).count()
}

/// The entries of `audit log` for a group.
fn entries(group: u32) -> Result<Vec<Value>> {
    let said = cli::iommuctl(&format!("--json audit log --group {group}"))?.ended(0)?;
    let document = said.json()?;
    let entries = document.get("entries").and_then(Value::as_array);
    Ok(entries.context("no entries")?.clone())
}

/// The last of them, which must have these values.
fn last(group: u32, wanted: &[(&str, &str)]) -> Result<String> {
    let entries = entries(group)?;
    let entry = entries.last().context("there is no entry")?;
    for (path, value) in wanted {
        let found = entry.pointer(path).map(|found| match found {
            Value::String(text) => text.clone(),
            other => other.to_string(),
        });
        ensure!(
            found.as_deref() == Some(*value),
            "{path} should be {value}: {entry}"
        );
    }
    Ok(entry.to_string())
}

/// Waits until what was just done is in the log.
fn recorded(before: usize) -> Result<()> {
    until("it is recorded", || Ok(events()?.len() > before))
}

fn shell(script: &str) -> Result<bool> {
    let status = Command::new("/bin/sh")
        .args(["-c", script])
        .stderr(Stdio::null())
        .status();
    Ok(status.context("cannot start a shell")?.success())
}

/// Whoever changes a group, and however it ends, is in the log.
fn who(bench: &Bench) -> Result<()> {
    load_live()?;
    let _log = Fresh::new("mode=0755")?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let recorder = Recorder::start(&[])?;
    bench.check(
        "every-group-is-first-seen",
        events().and_then(|events| {
            ensure!(events.len() == pci::groups()?.len(), "{events:?}");
            Ok(events.len())
        }),
    );

    let before = events()?.len();
    set_mode(&device, group, "DMA")?;
    // Opened, closed, and the kernel's word.
    until("three records tell of it", || {
        Ok(events()?.len() >= before + 3)
    })?;
    bench.check(
        "by-iommuctl",
        last(
            group,
            &[
                ("/learned", "iommuctl"),
                ("/old_type", "DMA-FQ"),
                ("/new_type", "DMA"),
                ("/outcome", "changed"),
                ("/route", "module"),
                ("/who/command", "iommuctl"),
                ("/who/executable", PROGRAM),
                ("/who/uid", "0"),
                ("/confirmed", "true"),
            ],
        ),
    );

    let before = events()?.len();
    let path = format!("/sys/kernel/iommu_groups/{group}/type");
    // As a shell of somebody who logged in.
    let script = format!("echo 1000 > /proc/self/loginuid; echo DMA-FQ > {path}");
    ensure!(shell(&script)?, "the shell could not write");
    recorded(before)?;
    bench.check(
        "by-echo",
        last(
            group,
            &[
                ("/learned", "kernel"),
                ("/old_type", "DMA"),
                ("/new_type", "DMA-FQ"),
                ("/outcome", "changed"),
                ("/who/command", "sh"),
                ("/who/login_uid", "1000"),
                ("/who/uid", "0"),
            ],
        ),
    );

    let before = events()?.len();
    ensure!(
        !shell(&format!("echo identity > {path}"))?,
        "identity was accepted"
    );
    recorded(before)?;
    bench.check(
        "by-refused-echo",
        last(
            group,
            &[
                ("/learned", "kernel"),
                ("/requested", "identity"),
                ("/new_type", "DMA-FQ"),
                ("/outcome", "refused"),
                ("/errno", "1"),
                ("/who/command", "sh"),
            ],
        ),
    );

    let before = events()?.len();
    ensure!(without_capabilities(&path)?, "it was not denied");
    recorded(before)?;
    bench.check(
        "by-denied-write",
        last(
            group,
            &[
                ("/outcome", "denied"),
                ("/requested", "DMA"),
                ("/errno", "13"),
            ],
        ),
    );

    bench.check("watched", watched(&path));
    bench.check("by-policy", by_policy(group));
    bench.check(
        "refused-by-iommuctl",
        cli::iommuctl(&format!("set-mode {device} identity"))?
            .ended(3)
            .and_then(|_| last(group, &[("/outcome", "refused"), ("/learned", "iommuctl")])),
    );
    bench.check(
        "verify",
        cli::iommuctl("audit verify")?
            .ended(0)?
            .mentions(&["intact"]),
    );
    bench.check("recorder-ends", recorder.stop());
    Ok(())
}

/// Who watches sees a write of somebody else, and can stop at any time.
fn watched(path: &str) -> Result<String> {
    let mut command = Command::new(PROGRAM);
    command.args(["--json", "watch"]).stdin(Stdio::null());
    let child = command.stdout(Stdio::piped()).spawn();
    let child = child.context("cannot start iommuctl watch")?;
    std::thread::sleep(Duration::from_secs(3));
    let written = shell(&format!("echo identity > {path}"));
    // The kernel's word waits a moment for that of whoever wrote.
    std::thread::sleep(Duration::from_secs(5));
    kill(Pid::from_raw(i32::try_from(child.id())?), Signal::SIGINT)?;
    let output = child
        .wait_with_output()
        .context("cannot wait for iommuctl watch")?;
    ensure!(!written?, "identity was accepted");
    ensure!(
        output.status.success(),
        "watch ended with {}",
        output.status
    );
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let is_it = |line: &&str| line.contains("\"refused\"") && line.contains("\"sh\"");
    let line = text.lines().find(is_it);
    Ok(line
        .with_context(|| format!("not among: {text}"))?
        .to_owned())
}

/// A write by root in all but the capabilities.
fn without_capabilities(path: &str) -> Result<bool> {
    use std::io::Write as _;
    let mut file = fs::OpenOptions::new().write(true).open(path)?;
    let answer = as_nobody(|| file.write_all(b"DMA\n"))?;
    Ok(answer.is_err())
}

fn by_policy(group: u32) -> Result<String> {
    let address = format!("address: \"{}\"", pci::DISK);
    policy::write_policy(&policy::rule("the disk", &address, "DMA"))?;
    cli::iommuctl("policy apply")?.ended(0)?;
    let told = last(
        group,
        &[
            ("/outcome", "changed"),
            ("/new_type", "DMA"),
            ("/who/rules/0", "the disk"),
        ],
    );
    fs::remove_file(policy::FILE)?;
    told
}

/// What nobody told of is found.
fn found(bench: &Bench) -> Result<()> {
    load_live()?;
    let _log = Fresh::new("mode=0755")?;
    let (group, _) = disk()?;
    write_type(group, "DMA-FQ")?;
    // The smallest that the kernel gives.
    let recorder = Recorder::start(&["--buffer", "1"])?;
    recorder.signal(Signal::SIGSTOP)?;
    let writes = bench.of(20, 100);
    for _ in 0..writes {
        pci::write_type(group, "DMA")?;
        pci::write_type(group, "DMA-FQ")?;
    }
    pci::write_type(group, "DMA")?;
    recorder.signal(Signal::SIGCONT)?;
    until("the overrun is noticed", || Ok(notes("overrun") > 0))?;
    until("the last type is known", || {
        Ok(last(group, &[("/new_type", "DMA")]).is_ok())
    })?;
    bench.check(
        "after-an-overrun",
        last(
            group,
            &[
                ("/learned", "comparison"),
                ("/outcome", "changed"),
                ("/old_type", "DMA-FQ"),
            ],
        ),
    );
    bench.check("recorder-ends", recorder.stop());

    // While nothing records.
    pci::write_type(group, "DMA-FQ")?;
    let recorder = Recorder::start(&[])?;
    bench.check(
        "while-it-did-not-run",
        last(
            group,
            &[
                ("/learned", "comparison"),
                ("/old_type", "DMA"),
                ("/new_type", "DMA-FQ"),
            ],
        ),
    );

    // Without the module nothing tells. The kernel relaxes by itself, so that is what is to be found.
    pci::write_type(group, "DMA")?;
    modules::unload(modules::LIVE)?;
    std::thread::sleep(Duration::from_secs(1));
    pci::write_type(group, "DMA-FQ")?;
    until("it is found", || {
        Ok(last(group, &[("/learned", "comparison"), ("/old_type", "DMA")]).is_ok())
    })?;
    bench.check(
        "without-the-module",
        last(group, &[("/new_type", "DMA-FQ")]),
    );
    let comparisons = entries(group)?.len();
    set_mode("group:1", 1, "DMA-FQ")?;
    std::thread::sleep(Duration::from_secs(12));
    bench.check("what-is-known-is-not-found-again", {
        let now = entries(group)?.len();
        match now == comparisons {
            true => Ok(now),
            false => Err(anyhow::anyhow!("{comparisons} entries became {now}")),
        }
    });
    bench.check("verify", cli::iommuctl("audit verify")?.ended(0));
    bench.check("recorder-ends-again", recorder.stop());
    Ok(())
}

/// Without a record nothing is changed, unless the settings say so.
fn unrecorded(bench: &Bench) -> Result<()> {
    load_live()?;
    let (group, device) = disk()?;
    write_type(group, "DMA-FQ")?;
    let refused = || -> Result<String> {
        let said = cli::iommuctl(&format!("set-mode {device} DMA"))?.ended(1)?;
        let said = said.mentions(&["cannot be recorded", "nothing was done"])?;
        pci::expect_type(group, "DMA-FQ")?;
        Ok(said.err)
    };

    let _log = Fresh::new("mode=0755,size=64k")?;
    let filler = vec![0; 60 * 1024];
    // The rest of the last pages, too.
    while fs::write(
        format!("/var/log/{}", fs::read_dir("/var/log")?.count()),
        &filler,
    )
    .is_ok()
    {}
    bench.check("disk-full", refused());
    for entry in fs::read_dir("/var/log")?.flatten() {
        let _ = fs::remove_file(entry.path());
    }
    bench.check("room-again", set_mode(&device, group, "DMA"));
    write_type(group, "DMA-FQ")?;
    bench.check(
        "and-the-log-is-whole",
        cli::iommuctl("audit verify")?.ended(0),
    );

    let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY;
    mount(
        None::<&str>,
        "/var/log",
        None::<&str>,
        read_only,
        None::<&str>,
    )?;
    bench.check("read-only", refused());
    fs::write(SETTINGS, "version: 1\nrequire: none\n")?;
    bench.check(
        "as-the-settings-say",
        cli::iommuctl(&format!("set-mode {device} DMA"))?
            .ended(0)
            .and_then(|said| said.mentions(&["warning", "not in the audit log"])),
    );
    write_type(group, "DMA-FQ")?;
    fs::write(SETTINGS, "version: 1\nrequires: none\n")?;
    bench.check(
        "wrong-settings",
        cli::iommuctl(&format!("set-mode {device} DMA"))?
            .ended(1)
            .and_then(|said| said.mentions(&[SETTINGS, "did you mean `require`"])),
    );
    fs::remove_file(SETTINGS)?;
    let writable = MsFlags::MS_REMOUNT;
    mount(
        None::<&str>,
        "/var/log",
        None::<&str>,
        writable,
        None::<&str>,
    )?;
    Ok(())
}

/// Ten thousand writes a second for a while: none is lost, and the recorder stays as small as it was.
fn flood(bench: &Bench) -> Result<()> {
    load_live()?;
    let _log = Fresh::new("mode=0755")?;
    let groups = pci::groups()?;
    for group in &groups {
        write_type(*group, "DMA-FQ")?;
    }
    let recorder = Recorder::start(&[])?;
    let time = Duration::from_secs(u64::try_from(bench.of(5, 60))?);
    let (begin, before) = (Instant::now(), recorder.memory()?);
    let rate = EACH_SECOND.div_ceil(groups.len() as u128);
    let flood = |group: u32| -> Result<usize> {
        let mut written = 0u128;
        while begin.elapsed() < time {
            // What it is already: the kernel's quickest answer.
            pci::write_type(group, "DMA-FQ")?;
            written += 1;
            let due = begin.elapsed().as_micros() * rate / 1_000_000;
            if written > due {
                std::thread::sleep(Duration::from_millis(1));
            }
        }
        Ok(usize::try_from(written)?)
    };
    let written: usize = std::thread::scope(|scope| {
        let tasks: Vec<_> = groups
            .iter()
            .map(|group| scope.spawn(|| flood(*group)))
            .collect();
        let ended = tasks.into_iter().map(|task| match task.join() {
            Ok(written) => written,
            Err(_) => bail!("a writer panicked"),
        });
        ended.sum::<Result<usize>>()
    })?;
    let took = begin.elapsed();
    bench.fact("writes", written);
    bench.fact(
        "writes-each-second",
        written as u128 * 1000 / took.as_millis().max(1),
    );
    until("all are recorded", || Ok(total()? >= written))?;
    let caught_up = begin.elapsed() - took;
    bench.fact("caught-up-after-ms", caught_up.as_millis());
    bench.check(
        "none-is-lost",
        match total()? {
            found if found == written => Ok(found),
            found => Err(anyhow::anyhow!("{found} of {written}")),
        },
    );
    let after = recorder.memory()?;
    bench.fact("memory-kib", format!("{before} then {after}"));
    bench.check(
        "memory-is-bounded",
        match after < before + 24 * 1024 {
            true => Ok(after),
            false => Err(anyhow::anyhow!("{before} KiB became {after}")),
        },
    );
    bench.check("verify", cli::iommuctl("audit verify")?.ended(0));
    bench.check("recorder-ends", recorder.stop());
    Ok(())
}

/// How many unchanged writes the kernel told of, by the head of the log: its oldest files are dropped meanwhile.
fn total() -> Result<usize> {
    let text = fs::read_to_string(HEAD).with_context(|| format!("cannot read {HEAD}"))?;
    let head: Value = serde_json::from_str(&text)?;
    let total = head
        .pointer("/totals/kernel unchanged")
        .and_then(Value::as_u64);
    Ok(usize::try_from(total.unwrap_or(0))?)
}

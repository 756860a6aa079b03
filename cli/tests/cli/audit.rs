// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl audit report`, on a log of two boots.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};

use serde_json::{json, Value};

use crate::golden::{both, compare};
use crate::support::Machine;

const UNTIL: &str = "2026-11-03T00:00:00Z";

fn disk() -> Value {
    json!([{
        "name": "0000:01:00.0",
        "path": "devices/pci0000:00/0000:00:06.0/0000:01:00.0",
        "ids": "144d:a808:144d:a801",
        "driver": "nvme",
    }])
}

fn network() -> Value {
    json!([{
        "name": "0000:00:1f.6",
        "path": "devices/pci0000:00/0000:00:1f.6",
        "ids": "8086:15fb:17aa:22d5",
        "driver": "e1000e",
        "external": true,
    }])
}

/// Makes records of events: of a boot that began at some hour, after so many minutes.
struct Log(String);

impl Log {
    fn add(&mut self, boot: (&str, u64), minute: u64, devices: Value, more: Value) {
        let seq = self.0.lines().count() + 1;
        let at = 60 * boot.1 + minute;
        let mut event = json!({
            "id": format!("x{seq}"),
            "phase": "closed",
            "time": format!("2026-11-{:02}T{:02}:{:02}:00Z", 1 + at / 1440, at / 60 % 24, at % 60),
            "uptime_ms": 60_000 * minute,
            "boot": boot.0,
            "learned": "comparison",
            "group": 7,
            "devices": devices,
            "who": {},
        });
        for (name, value) in more.as_object().into_iter().flatten() {
            event[name] = value.clone();
        }
        let record = json!({ "v": 1, "seq": seq, "prev": "0".repeat(64), "event": event });
        self.0.push_str(&format!("{record}\n"));
    }
}

/// A disk that was relaxed and tightened, and a network card that was rebound; the first boot is over.
fn log() -> String {
    let (first, second) = (("first", 8), ("second", 30));
    let mut log = Log(String::new());
    let seen = |kind: &str| json!({ "outcome": "first-seen", "new_type": kind });
    let bash = json!({ "pid": 77, "started": 1, "uid": 0, "login_uid": 1000, "command": "<b>ash" });
    let root =
        json!({ "pid": 99, "started": 2, "uid": 0, "command": "iommuctl", "unit": "x.service" });
    log.add(first, 1, disk(), seen("DMA"));
    log.add(first, 1, network(), seen("DMA"));
    let begun = json!({
        "id": "pair", "phase": "opened", "learned": "iommuctl", "who": bash,
        "old_type": "DMA", "requested": "DMA-FQ", "route": "sysfs",
    });
    let ended = json!({
        "id": "pair", "learned": "iommuctl", "who": bash, "outcome": "changed",
        "old_type": "DMA", "requested": "DMA-FQ", "new_type": "DMA-FQ", "route": "sysfs",
    });
    log.add(first, 120, disk(), begun);
    log.add(first, 120, disk(), ended);
    let refused = json!({
        "learned": "kernel", "who": bash, "outcome": "refused", "message": "in \"use\"",
        "old_type": "DMA-FQ", "requested": "DMA", "new_type": "DMA-FQ",
    });
    log.add(first, 180, disk(), refused);
    log.add(second, 1, disk(), seen("DMA-FQ"));
    log.add(second, 1, network(), seen("DMA"));
    let rebound = json!({
        "learned": "iommuctl", "who": root, "outcome": "changed", "route": "rebind",
        "old_type": "DMA", "requested": "identity", "new_type": "identity",
        "interrupted": [{ "device": "0000:00:1f.6", "milliseconds": 1500.5 }],
    });
    log.add(second, 200, network(), rebound);
    let found = json!({ "outcome": "changed", "old_type": "identity", "new_type": "DMA" });
    log.add(second, 210, network(), found);
    // Begun, and whoever did it was killed.
    let killed = json!({
        "phase": "opened", "learned": "iommuctl", "who": root,
        "old_type": "DMA-FQ", "requested": "DMA", "route": "module",
    });
    log.add(second, 240, disk(), killed);
    log.0
}

fn machine() -> Machine {
    let machine = Machine::laptop();
    machine.file("proc/sys/kernel/random/boot_id", "second\n");
    machine.file("var/log/iommuctl/audit.jsonl", &log());
    machine
}

#[test]
fn report() {
    let args = ["audit", "report", "--until", UNTIL];
    both(&machine(), "audit-report", "audit-report", &args);
}

#[test]
fn report_of_a_period() {
    let args = [
        "audit",
        "report",
        "--since",
        "2026-11-02T00:00:00Z",
        "--until",
        UNTIL,
    ];
    let run = machine().run(&[&["--json"], &args[..]].concat());
    let document = run.json();
    assert_eq!(document["from"], "2026-11-02T00:00:00Z");
    let disk = &document["devices"][0];
    assert_eq!(disk["changes"], 0, "{disk:#}");
    // Off until the second boot, and lazy from its first record on.
    assert_eq!(disk["milliseconds"]["not-known"], 6 * 3_600_000 + 60_000);
    assert_eq!(disk["milliseconds"]["DMA-FQ"], 18 * 3_600_000 - 60_000);
}

#[test]
fn page_is_whole_and_nothing_in_it_is_markup_of_others() {
    let machine = machine();
    let path = machine.root("report.html");
    let page = path.display().to_string();
    let run = machine.run(&["audit", "report", "--until", UNTIL, "--html", &page]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    assert!(run.out.contains("2 of 2 devices"), "{}", run.out);
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("&lt;b&gt;ash") && !text.contains("<b>ash"));
    assert!(
        !text.contains("://") && !text.contains("src="),
        "it needs more"
    );
    assert!(!text.contains("<script") && text.ends_with("</html>\n"));
    let mode = fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    let body = text.split_once("</head>").unwrap().1;
    let body = body.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    compare("audit-report.html", &body);
}

#[test]
fn page_that_cannot_be_written_leaves_nothing() {
    let machine = machine();
    let link = machine.root("link");
    symlink("/dev/null", &link).unwrap();
    let nowhere = machine.root("no/where.html");
    for path in [link, nowhere] {
        let page = path.display().to_string();
        let run = machine.run(&["audit", "report", "--html", &page]);
        assert_eq!(run.code, 1, "{run:?}");
        assert!(run.err.contains("no/where") || run.err.contains("not a plain file"));
    }
}

#[test]
fn report_without_a_log_says_what_begins_one() {
    let run = Machine::laptop().run(&["audit", "report"]);
    assert_eq!(run.code, 1);
    assert!(run.err.contains("iommuctl-audit"), "{}", run.err);
}

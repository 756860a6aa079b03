// SPDX-License-Identifier: GPL-2.0-only
//! `iommuctl metrics`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests fail as tests do"
)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use crate::golden::compare;
use crate::support::Machine;

const POLICY: &str = "\
version: 1
rules:
  - name: audio is strict
    match: { class: audio }
    type: DMA
  - name: disks are fast
    match: { class: nvme }
    type: DMA-FQ
";

fn machine() -> Machine {
    let machine = Machine::laptop().with_module().with_policy(POLICY);
    let hash = "0".repeat(64);
    machine.state_file(
        "audit-head.json",
        &format!(
            r#"{{"seq":42,"hash":"{hash}","dropped":0,"totals":{{"iommuctl changed":3,"kernel refused":1}}}}"#
        ),
    );
    machine.state_file(
        "audit-verified.json",
        r#"{"time":"2026-11-01T08:00:00Z","intact":true,"records":40}"#,
    );
    machine
}

/// Checks what OpenMetrics asks for: that the metadata of a family come before its samples and once, that samples belong to
/// the family before them, and that the end is said. Returns the samples.
fn check(text: &str) -> BTreeMap<String, f64> {
    let name = |text: &str| {
        let is_fine = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
        !text.is_empty() && text.chars().all(is_fine)
    };
    let body = text.strip_suffix("# EOF\n").unwrap();
    let (mut families, mut samples) = (BTreeSet::new(), BTreeMap::new());
    let (mut family, mut suffix) = ("", "");
    for line in body.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (of, kind) = rest.split_once(' ').unwrap();
            assert!(name(of) && families.insert(of.to_owned()), "{line}");
            family = of;
            suffix = match kind {
                "gauge" => "",
                "counter" => "_total",
                "info" => "_info",
                _ => panic!("{line}"),
            };
        } else if let Some(rest) = line.strip_prefix("# UNIT ") {
            let (of, unit) = rest.split_once(' ').unwrap();
            assert!(of == family && of.ends_with(&format!("_{unit}")), "{line}");
        } else if let Some(rest) = line.strip_prefix("# HELP ") {
            assert!(rest.starts_with(&format!("{family} ")), "{line}");
        } else {
            let (sample, value) = line.rsplit_once(' ').unwrap();
            let of = sample.split('{').next().unwrap();
            assert_eq!(of, format!("{family}{suffix}"), "{line}");
            let value: f64 = value.parse().unwrap();
            assert!(suffix != "_total" || value >= 0.0, "{line}");
            let new = samples.insert(sample.to_owned(), value).is_none();
            assert!(new, "twice: {line}");
        }
    }
    samples
}

#[test]
fn metrics_are_open_metrics() {
    let run = machine().run(&["metrics"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""));
    let samples = check(&run.out);
    assert_eq!(samples["iommuctl_module_loaded"], 1.0);
    let version = env!("CARGO_PKG_VERSION");
    let version = format!("version=\"{version}\"");
    compare(
        "metrics.txt",
        &run.out.replace(&version, "version=\"VERSION\""),
    );
}

#[test]
fn what_differs_is_what_policy_diff_says() {
    let machine = machine();
    let samples = check(&machine.run(&["metrics"]).out);
    let differing = |forbidden: bool| {
        samples[&format!("iommuctl_policy_differing_groups{{forbidden=\"{forbidden}\"}}")]
    };
    let diff = machine.run(&["--json", "policy", "diff"]).json();
    let count = diff["differences"].as_array().unwrap().len();
    assert_eq!(
        differing(false) + differing(true),
        f64::from(u32::try_from(count).unwrap())
    );
    assert!(count > 0);
}

#[test]
fn what_is_not_known_is_not_there() {
    for machine in [Machine::laptop(), Machine::new("no-iommu")] {
        let run = machine.run(&["metrics"]);
        assert_eq!((run.code, run.err.as_str()), (0, ""));
        check(&run.out);
        assert!(!run.out.contains("policy") && !run.out.contains("audit"));
        assert!(!run.out.contains("module_events"));
    }
}

#[test]
fn wrong_policy_is_told_and_does_not_hide_the_rest() {
    let machine = Machine::laptop().with_policy("version: 7\n");
    let run = machine.run(&["metrics"]);
    assert_eq!(run.code, 0);
    assert_eq!(check(&run.out)["iommuctl_policy_usable"], 0.0);
    assert!(!run.out.contains("differing"), "{}", run.out);
    assert!(run.err.contains("50-site.yaml"), "{}", run.err);
}

#[test]
fn textfile_is_whole_and_in_the_format_the_node_exporter_reads() {
    let machine = machine();
    let path = machine.root("iommuctl.prom");
    let file = path.display().to_string();
    let run = machine.run(&["metrics", "--textfile", &file]);
    assert_eq!((run.code, run.out.as_str(), run.err.as_str()), (0, "", ""));
    let text = fs::read_to_string(&path).unwrap();
    assert!(text.contains("# TYPE iommuctl_audit_events_total counter\n"));
    assert!(!text.contains("# EOF"));
    let run = machine.run(&["metrics", "--textfile", "/nonexistent/iommuctl.prom"]);
    assert_eq!(run.code, 1);
    assert!(
        run.err.contains("/nonexistent/iommuctl.prom"),
        "{}",
        run.err
    );
}

#[test]
fn verifying_is_remembered() {
    let machine = Machine::laptop();
    machine.file("var/log/iommuctl/audit.jsonl", "no record\n");
    machine.file("var/lib/x", "");
    let run = machine.run(&["audit", "verify"]);
    assert_eq!(run.code, 3, "{run:?}");
    let samples = check(&machine.run(&["metrics"]).out);
    assert_eq!(samples["iommuctl_audit_verified_intact"], 0.0);
    assert!(samples["iommuctl_audit_verified_timestamp_seconds"] > 1.7e9);
}

#[test]
fn what_the_module_is_doing_is_a_gauge() {
    let machine = Machine::laptop().with_module().with_cleanups(1);
    let samples = |machine: &Machine| check(&machine.run(&["metrics"]).out);
    let found = samples(&machine);
    assert_eq!(found["iommuctl_module_cleanups"], 5.0);
    assert_eq!(found["iommuctl_module_tripped"], 0.0);
    assert_eq!(found["iommuctl_module_longest_hold_seconds"], 0.000_091_234);
    let is_event = |name: &&String| name.contains("event=\"tripped\"");
    assert_eq!(found.keys().find(is_event), None);
    machine.file("sys/kernel/iommu_live/tripped", "1\n");
    assert_eq!(samples(&machine)["iommuctl_module_tripped"], 1.0);
    // A module that does not say.
    let silent = samples(&Machine::laptop().with_module());
    assert!(!silent.contains_key("iommuctl_module_tripped"));
    assert!(!silent.contains_key("iommuctl_module_cleanups"));
}

// SPDX-License-Identifier: GPL-2.0-only
//! Lockdown and release: everything becomes strict, and exactly what was not is relaxed again.

#![expect(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, Instant};

use crate::schema;
use crate::support::Machine;

const GROUPS: [u32; 11] = [0, 1, 5, 8, 10, 12, 14, 16, 17, 18, 19];

/// A laptop on which everything can be switched live.
fn laptop() -> Machine {
    let machine = Machine::laptop().with_module();
    machine.file("run/keep", "");
    // An identity group cannot be made strict live.
    fs::write(machine.type_file(19), "DMA-FQ\n").unwrap();
    machine
}

fn types(machine: &Machine) -> Vec<String> {
    GROUPS.iter().map(|g| machine.type_of(*g)).collect()
}

fn all_strict(machine: &Machine) -> bool {
    types(machine).iter().all(|t| t == "DMA\n")
}

#[test]
fn release_restores_exactly_what_was() {
    let machine = laptop();
    let before = types(&machine);
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    assert!(all_strict(&machine));
    let record = machine.root("run/iommuctl/lockdown.json");
    assert!(fs::read_to_string(&record).unwrap().contains("DMA-FQ"));
    let run = machine.run(&["release"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(types(&machine), before);
    assert!(!record.exists());
    let run = machine.run(&["release"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("nothing to release"), "{}", run.out);
}

#[test]
fn hundreds_of_groups_are_announced_together_and_written_by_a_few_processes() {
    let machine = laptop();
    let more = 1000..1250;
    for group in more.clone() {
        let path = format!("sys/kernel/iommu_groups/{group}/type");
        machine.file(&path, "DMA-FQ\n");
    }
    fs::create_dir_all(machine.root("var/log")).unwrap();
    fs::create_dir_all(machine.root("var/lib")).unwrap();
    let run = machine.run(&["--json", "lockdown"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(more.clone().all(|group| machine.type_of(group) == "DMA\n"));
    let log = fs::read_to_string(machine.root("var/log/iommuctl/audit.jsonl")).unwrap();
    let records = log.lines().map(|line| {
        let record: serde_json::Value = serde_json::from_str(line).unwrap();
        record["event"].clone()
    });
    let (opened, closed): (Vec<_>, Vec<_>) = records.partition(|event| event["phase"] == "opened");
    assert_eq!((opened.len(), closed.len()), (258, 258));
    // Before the first of them was written to.
    let first: Vec<&str> = log.lines().take(256).collect();
    assert!(first.iter().all(|line| line.contains("\"opened\"")));
    let writers: BTreeSet<u64> = closed
        .iter()
        .map(|event| event["writer"]["pid"].as_u64().unwrap())
        .collect();
    assert!(writers.len() <= 64, "{} processes", writers.len());
    assert_eq!(machine.run(&["release"]).code, 0);
    assert!(more
        .clone()
        .all(|group| machine.type_of(group) == "DMA-FQ\n"));
}

#[test]
fn dry_runs_say_what_the_others_do_and_do_nothing() {
    let machine = laptop();
    let before = types(&machine);
    let groups = |words: &[&str]| {
        let run = machine.run(&[&["--json"], words].concat());
        let document = run.json();
        schema::check("lockdown", &document);
        let results = document["results"].as_array().unwrap().clone();
        let groups: Vec<_> = results.iter().map(|r| r["group"].clone()).collect();
        (run.code, groups)
    };
    let would = groups(&["lockdown", "--dry-run"]);
    assert_eq!(types(&machine), before);
    assert!(!machine.root("run/iommuctl").exists());
    assert_eq!(groups(&["lockdown"]), would);
    let shown = machine.run(&["release", "--dry-run"]);
    assert!(shown.out.contains("would become DMA-FQ"), "{shown:?}");
    let would = groups(&["release", "--dry-run"]);
    assert!(all_strict(&machine));
    assert_eq!(groups(&["release"]), would);
    assert_eq!(types(&machine), before);
    assert_eq!(
        machine
            .run(&["lockdown", "--dry-run", "--while", "true"])
            .code,
        2
    );
}

#[test]
fn locking_down_twice_remembers_the_first() {
    let machine = laptop();
    let before = types(&machine);
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let run = machine.run(&["lockdown"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("strict already"), "{}", run.out);
    assert_eq!(machine.run(&["release"]).code, 0);
    assert_eq!(types(&machine), before);
}

#[test]
fn external_device_is_not_relaxed_by_release() {
    let machine = laptop();
    fs::write(machine.type_file(16), "DMA-FQ\n").unwrap();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let run = machine.run(&["release"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("plugged in from outside"), "{}", run.err);
    assert_eq!(machine.type_of(16), "DMA\n");
    assert_eq!(machine.type_of(12), "DMA-FQ\n");
}

#[test]
fn what_could_not_be_tightened_is_said_and_not_remembered() {
    let machine = Machine::laptop();
    machine.file("run/keep", "");
    let run = machine.run(&["lockdown"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.err.contains("modprobe iommu_live"), "{}", run.err);
    let record = fs::read_to_string(machine.root("run/iommuctl/lockdown.json")).unwrap();
    let record: serde_json::Value = serde_json::from_str(&record).unwrap();
    let groups = record["groups"].as_array().unwrap();
    let numbers: Vec<u64> = groups.iter().filter_map(|g| g["group"].as_u64()).collect();
    assert_eq!(numbers, [1, 5, 17]);
}

#[test]
fn a_group_whose_type_is_not_shown_does_not_count_as_strict() {
    let machine = laptop();
    fs::remove_file(machine.type_file(12)).unwrap();
    let run = machine.run(&["lockdown", "--while", "echo", "ran"]);
    assert_eq!((run.code, run.out.as_str()), (4, ""), "{run:?}");
    assert!(
        run.err
            .contains("group 12: the kernel does not show its type"),
        "{run:?}"
    );
    let run = machine.run(&["lockdown"]);
    assert_eq!(run.code, 4, "{run:?}");
    // Nothing is left that could be made strict.
    let run = machine.run(&["lockdown"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.out.contains("The other 10 groups were strict already"));
    let run = machine.run(&["lockdown", "--partly", "--while", "echo", "ran"]);
    assert_eq!((run.code, run.out.as_str()), (0, "ran\n"), "{run:?}");
}

#[test]
fn a_group_in_the_hands_of_user_space_is_listed_and_not_changed() {
    let machine = laptop();
    let before = types(&machine);
    for (text, why) in [
        ("unmanaged\n", "group 12: it is in the hands of user space"),
        ("unknown\n", "group 12: "),
    ] {
        fs::write(machine.type_file(12), text).unwrap();
        let run = machine.run(&["lockdown", "--while", "echo", "ran"]);
        assert_eq!((run.code, run.out.as_str()), (4, ""), "{run:?}");
        assert!(run.err.contains(why), "{run:?}");
        assert_eq!(machine.type_of(12), text);
    }
    fs::write(machine.type_file(12), &before[5]).unwrap();
    assert_eq!(types(&machine), before);
}

#[test]
fn a_blocked_group_is_strict() {
    let machine = laptop();
    fs::write(machine.type_file(12), "blocked\n").unwrap();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    assert_eq!(machine.type_of(12), "blocked\n");
}

const POLICY: &str = "\
version: 1
rules:
  - { name: the radio is fast, match: { class: wifi }, type: DMA-FQ }
  - { name: the disk is strict, match: { class: nvme }, type: DMA }
";

#[test]
fn a_policy_makes_nothing_laxer_during_a_lockdown() {
    let machine = laptop().with_policy(POLICY);
    let before = types(&machine);
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let record = fs::read(machine.root("run/iommuctl/lockdown.json")).unwrap();
    for words in [
        ["policy", "apply"].as_slice(),
        &["policy", "apply", "--boot"],
        &["policy", "apply", "--device", "14"],
        &["policy", "apply", "--check"],
        &["policy", "plan"],
    ] {
        let run = machine.run(words);
        assert_eq!(run.code, 3, "{words:?}: {run:?}");
        assert!(run.err.contains("a lockdown is in force"), "{run:?}");
        assert!(run.err.contains("iommuctl release"), "{run:?}");
        assert!(all_strict(&machine), "{words:?}");
    }
    let record_now = fs::read(machine.root("run/iommuctl/lockdown.json")).unwrap();
    assert_eq!(record_now, record);
    assert_eq!(machine.run(&["release"]).code, 0);
    assert_eq!(types(&machine), before);
    assert_eq!(machine.run(&["policy", "apply"]).code, 0);
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
}

#[test]
fn a_policy_still_tightens_during_a_lockdown() {
    let machine = laptop().with_policy(POLICY);
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    fs::write(machine.type_file(12), "DMA-FQ\n").unwrap();
    assert_eq!(machine.run(&["policy", "apply"]).code, 4);
    assert!(all_strict(&machine));
}

#[test]
fn a_policy_makes_nothing_laxer_while_a_command_runs() {
    let machine = laptop().with_policy(POLICY);
    let program = env!("CARGO_BIN_EXE_iommuctl");
    let script = format!("{program} {} policy apply", machine.roots().join(" "));
    let run = machine.run(&["lockdown", "--while", "sh", "-c", &script]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("a lockdown is in force"), "{run:?}");
}

#[test]
fn a_policy_that_cannot_know_of_a_lockdown_makes_nothing_laxer() {
    let machine = laptop().with_policy(POLICY);
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    fs::write(machine.root("run/iommuctl/lockdown.json"), "{").unwrap();
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(
        run.err.contains("is not the record of a lockdown"),
        "{run:?}"
    );
    assert!(all_strict(&machine));
}

#[test]
fn set_mode_makes_a_group_laxer_during_a_lockdown_and_says_so() {
    let machine = laptop();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let run = machine.run(&["set-mode", "12", "DMA-FQ"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("a lockdown is in force"), "{run:?}");
    assert_eq!(machine.type_of(12), "DMA-FQ\n");
    let run = machine.run(&["set-mode", "12", "DMA"]);
    assert_eq!((run.code, run.err.as_str()), (0, ""), "{run:?}");
}

#[test]
fn status_shows_a_lockdown_only_when_there_is_one() {
    let machine = laptop();
    assert!(!machine.run(&["status"]).out.contains("Lockdown"));
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let run = machine.run(&["status"]);
    assert!(
        run.out
            .contains("Lockdown    in force until `iommuctl release`"),
        "{}",
        run.out
    );
    let json = machine.run(&["status", "--json"]).json();
    schema::check("status", &json);
    assert_eq!(json["lockdown"]["standing"], true);
    assert_eq!(machine.run(&["release"]).code, 0);
    assert!(!machine.run(&["status"]).out.contains("Lockdown"));
}

#[test]
fn a_group_with_other_devices_is_left_alone() {
    let machine = laptop();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let devices = machine.sys("kernel/iommu_groups/12/devices");
    fs::remove_file(devices.join("0000:01:00.0")).unwrap();
    symlink(
        "../../../../devices/pci0000:00/0000:00:06.0",
        devices.join("0000:00:06.0"),
    )
    .unwrap();
    assert_eq!(machine.run(&["release"]).code, 0);
    assert_eq!(machine.type_of(12), "DMA\n");
    assert_eq!(machine.type_of(10), "DMA-FQ\n");
}

#[test]
fn a_group_that_was_relaxed_meanwhile_is_no_failure() {
    let machine = laptop();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    assert_eq!(machine.run(&["set-mode", "12", "DMA-FQ"]).code, 0);
    assert_eq!(machine.run(&["release"]).code, 0);
}

#[test]
fn while_a_command_runs_everything_is_strict_and_its_exit_code_counts() {
    let machine = laptop();
    let before = types(&machine);
    let look = machine.type_file(12).display().to_string();
    let script = format!("cat {look}; exit 42");
    let run = machine.run(&["lockdown", "--while", "sh", "-c", &script]);
    assert_eq!((run.code, run.out.as_str()), (42, "DMA\n"), "{run:?}");
    assert_eq!(types(&machine), before);
    let run = machine.run(&["lockdown", "--while", "sh", "-c", "kill -9 $$"]);
    assert_eq!(run.code, 137, "{run:?}");
    assert_eq!(types(&machine), before);
}

#[test]
fn a_command_that_cannot_be_run_is_found_out_before_anything_is_switched() {
    let machine = laptop();
    let file = machine.file("not-a-program/data", "").display().to_string();
    for (program, code) in [
        ("/nonexistent", 127),
        ("iommuctl-no-such-program", 127),
        (file.as_str(), 126),
        ("/", 126),
    ] {
        let run = machine.run(&["lockdown", "--while", program]);
        assert_eq!((run.code, run.out.as_str()), (code, ""), "{run:?}");
        assert!(run.err.contains("Failed to run"), "{run:?}");
        // Not even the folder was made.
        assert!(!machine.run_dir("").exists());
    }
}

#[test]
fn a_script_without_its_interpreter_ends_the_lockdown_too() {
    let machine = laptop();
    let before = types(&machine);
    let file = machine.file("bin/script", "#!/nonexistent\n");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(&file, mode).unwrap();
    let run = machine.run(&["lockdown", "--while", &file.display().to_string()]);
    assert_eq!(run.code, 127, "{run:?}");
    assert_eq!(types(&machine), before);
}

#[test]
fn json_does_not_go_with_a_command() {
    let machine = laptop();
    let before = types(&machine);
    let run = machine.run(&["--json", "lockdown", "--while", "echo", "ran"]);
    assert_eq!(run.code, 2, "{run:?}");
    assert!(!run.out.contains("ran\n"), "{run:?}");
    assert!(!machine.run_dir("").exists());
    // What comes after the command is the command's.
    let run = machine.run(&["lockdown", "--while", "echo", "--json"]);
    assert_eq!((run.code, run.out.as_str()), (0, "--json\n"), "{run:?}");
    assert_eq!(types(&machine), before);
}

#[test]
fn a_command_does_not_run_half_protected_unless_that_is_wanted() {
    let machine = Machine::laptop();
    machine.file("run/keep", "");
    let before = types(&machine);
    let run = machine.run(&["lockdown", "--while", "echo", "ran"]);
    assert_eq!((run.code, run.out.as_str()), (4, ""), "{run:?}");
    assert_eq!(types(&machine), before);
    let run = machine.run(&["lockdown", "--partly", "--while", "echo", "ran"]);
    assert_eq!((run.code, run.out.as_str()), (0, "ran\n"), "{run:?}");
    assert_eq!(types(&machine), before);
}

#[test]
fn a_lockdown_that_was_asked_for_outlives_a_command() {
    let machine = laptop();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    assert_eq!(machine.run(&["lockdown", "--while", "true"]).code, 0);
    assert!(all_strict(&machine));
}

#[test]
fn release_waits_for_a_command_that_still_runs() {
    let machine = laptop();
    let before = types(&machine);
    let go = machine.root("go");
    let script = format!("until [ -e {} ]; do sleep 0.05; done", go.display());
    let mut child = machine
        .command(&["lockdown", "--while", "sh", "-c", &script])
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !all_strict(&machine) && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    let run = machine.run(&["release"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains(&child.id().to_string()), "{}", run.err);
    assert!(all_strict(&machine));
    fs::write(go, "").unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(types(&machine), before);
}

#[test]
fn after_a_kill_release_still_restores_everything() {
    let machine = laptop();
    let before = types(&machine);
    let mut child = machine
        .command(&["lockdown", "--while", "sleep", "5"])
        .spawn()
        .unwrap();
    let begin = Instant::now();
    while !all_strict(&machine) && begin.elapsed() < Duration::from_secs(20) {
        std::thread::sleep(Duration::from_millis(20));
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let run = machine.run(&["release"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(types(&machine), before);
}

#[test]
fn a_record_that_others_could_have_written_is_not_believed() {
    let machine = laptop();
    assert_eq!(machine.run(&["lockdown"]).code, 0);
    let record = machine.root("run/iommuctl/lockdown.json");
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o666);
    fs::set_permissions(&record, mode).unwrap();
    let run = machine.run(&["release"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("others can write to it"), "{}", run.err);
    assert!(all_strict(&machine));
}

// SPDX-License-Identifier: GPL-2.0-only
//! The policy: which files count, what is applied, what is not, and how it ends.

use std::fs;
use std::os::unix::fs::{symlink, PermissionsExt};

use crate::schema;
use crate::support::Machine;

const RELAX_WIFI: &str = "\
version: 1
rules:
  - { name: the radio is fast, match: { class: wifi }, type: DMA-FQ }
";
const ETC: &str = "etc/iommuctl/policy.d";
const RUN: &str = "run/iommuctl/policy.d";
const LIB: &str = "usr/lib/iommuctl/policy.d";

fn rule(name: &str, class: &str, goal: &str) -> String {
    format!(
        "version: 1\nrules:\n  - {{ name: {name}, match: {{ class: {class} }}, type: {goal} }}\n"
    )
}

#[test]
fn apply_changes_what_is_wanted_and_nothing_else() {
    let machine = Machine::laptop().with_policy(RELAX_WIFI);
    let before = machine.type_of(12);
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
    assert_eq!(machine.type_of(12), before);
}

#[test]
fn applying_again_writes_nothing() {
    let machine = Machine::laptop().with_policy(RELAX_WIFI);
    assert_eq!(machine.run(&["policy", "apply"]).code, 0);
    // Without its newline, which a write would put back.
    fs::write(machine.type_file(14), "DMA-FQ").unwrap();
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("Nothing to do"), "{}", run.out);
    assert_eq!(machine.type_of(14), "DMA-FQ");
    assert_eq!(machine.run(&["policy", "apply", "--check"]).code, 0);
    assert_eq!(machine.run(&["policy", "diff"]).code, 0);
}

#[test]
fn check_plan_and_diff_change_nothing_and_say_that_something_would_change() {
    let machine = Machine::laptop().with_policy(RELAX_WIFI);
    assert_eq!(machine.run(&["policy", "apply", "--check"]).code, 4);
    assert_eq!(machine.run(&["policy", "diff"]).code, 4);
    assert_eq!(machine.run(&["policy", "plan"]).code, 0);
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn diff_does_not_take_a_missing_policy_for_one_that_is_met() {
    let machine = Machine::laptop();
    let run = machine.run(&["policy", "diff"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert!(run.out.contains("There is no policy"), "{}", run.out);
    let run = machine.run(&["--json", "policy", "diff"]);
    schema::check("policy-diff", &run.json());
    assert_eq!(run.json()["files"].as_array().unwrap().len(), 0);
    // A policy that says nothing is one.
    let machine = machine.with_policy("version: 1\n");
    assert_eq!(machine.run(&["policy", "diff"]).code, 0);
}

#[test]
fn what_could_not_be_had_is_in_the_exit_code_unless_the_rule_only_warns() {
    let tighten = "version: 1\nrules:\n  - { name: disk, match: { class: nvme }, type: DMA }\n";
    let machine = Machine::laptop().with_policy(tighten);
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("`disk` asked for DMA"), "{}", run.err);
    assert!(run.err.contains("modprobe iommu_live"), "{}", run.err);

    let warned = tighten.replace("type: DMA", "type: DMA, on_failure: warn");
    let machine = Machine::laptop().with_policy(&warned);
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains("a warning only"), "{}", run.err);

    let both = format!("{tighten}{}", &RELAX_WIFI["version: 1\nrules:\n".len()..]);
    let machine = Machine::laptop().with_policy(&both);
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 4, "{run:?}");
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
    assert_eq!(machine.type_of(12), "DMA-FQ\n");
}

#[test]
fn tighten_and_relax_go_in_one_batch() {
    let machine = Machine::laptop().with_module().with_policy(&format!(
        "{}{}",
        rule("disks", "nvme", "DMA"),
        &RELAX_WIFI["version: 1\nrules:\n".len()..]
    ));
    let run = machine.run(&["--json", "policy", "apply"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.groups(), [12, 14, 16]);
    assert_eq!(machine.type_of(12), "DMA\n");
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
}

#[test]
fn external_device_is_relaxed_only_by_force_with_a_reason() {
    let rule =
        "version: 1\nrules:\n  - { name: backup, match: { external: true }, type: DMA-FQ EXTRA}\n";
    let plain = Machine::laptop().with_policy(&rule.replace(" EXTRA", ""));
    let run = plain.run(&["policy", "apply"]);
    assert_eq!(run.code, 3, "{run:?}");
    assert!(run.err.contains("plugged in from outside"), "{}", run.err);
    assert_eq!(plain.type_of(16), "DMA\n");

    let forced = rule.replace(" EXTRA", ", force: true, reason: measured");
    let forced = Machine::laptop().with_policy(&forced);
    let run = forced.run(&["policy", "apply"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(forced.type_of(16), "DMA-FQ\n");
}

/// A policy that wants the disk at `address` strict, by this route.
fn strict_by(address: &str, route: &str) -> String {
    format!(
        "version: 1\nrules:\n  - {{ name: disk, match: {{ address: \"{address}\" }}, type: DMA, route: {route} }}\n"
    )
}

#[test]
fn rebind_is_planned_only_where_the_rule_allows_it() {
    for (route, code, needs) in [("live", 3, "rebind"), ("boot", 3, "boot")] {
        let machine = Machine::laptop().with_policy(&strict_by("00:14.0", route));
        let run = machine.run(&["--json", "policy", "plan"]);
        assert_eq!(run.code, code, "{route}: {run:?}");
        schema::check("policy-apply", &run.json());
        assert_eq!(run.json()["results"][0]["needs"], needs, "{route}");
    }
    let machine = Machine::laptop().with_policy(&strict_by("00:14.0", "rebind"));
    let run = machine.run(&["--json", "policy", "plan"]);
    schema::check("policy-apply", &run.json());
    let result = &run.json()["results"][0];
    assert_eq!(
        (run.code, &result["route"]),
        (0, &"rebind".into()),
        "{run:?}"
    );
    assert!(!result["writes"].as_array().unwrap().is_empty());
    assert_eq!(machine.type_of(8), "DMA-FQ\n");
}

#[test]
fn what_is_in_use_is_not_interrupted_whatever_the_rule_says() {
    let machine = Machine::laptop().with_policy(&strict_by("01:00.0", "rebind"));
    for command in ["plan", "apply"] {
        let run = machine.run(&["policy", command]);
        assert_eq!(run.code, 3, "{run:?}");
        for words in ["`disk` asked for DMA", "mounted at /", "in use"] {
            assert!(run.err.contains(words), "{words} is missing: {}", run.err);
        }
    }
    assert_eq!(machine.type_of(12), "DMA-FQ\n");
    let unbind = fs::read(machine.sys("bus/pci/drivers/nvme/unbind"));
    assert_eq!(unbind.unwrap(), b"");
}

#[test]
fn one_device_only() {
    let all = format!(
        "{}defaults: {{ unmatched: DMA-FQ }}\n",
        rule("x", "display", "DMA-FQ")
    );
    let machine = Machine::laptop().with_policy(&all);
    let run = machine.run(&["--json", "policy", "apply", "--device", "02:00.0"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(run.groups(), [14]);
    let run = machine.run(&["policy", "apply", "--device", "0f:00.0"]);
    assert_eq!(run.code, 1, "{run:?}");
}

#[test]
fn a_file_replaces_its_namesake_further_down() {
    let machine = Machine::laptop();
    machine.file(&format!("{LIB}/50-radio.yaml"), "this is: [not YAML");
    machine.file(&format!("{RUN}/50-radio.yaml"), &rule("r", "wifi", "DMA"));
    machine.file(&format!("{ETC}/50-radio.yaml"), RELAX_WIFI);
    assert_eq!(machine.run(&["policy", "apply"]).code, 0);
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
}

#[test]
fn a_file_with_another_suffix_does_not_count_and_that_is_said() {
    let machine = Machine::laptop();
    machine.file(&format!("{ETC}/50-a.yml"), RELAX_WIFI);
    machine.file(&format!("{ETC}/.50-a.yaml.swp"), "");
    let run = machine.run(&["policy", "check"]);
    for words in ["There is no policy", "/etc/iommuctl/policy.d", "ignored: "] {
        assert!(run.out.contains(words), "{words} is missing: {}", run.out);
    }
    let json = machine.run(&["--json", "policy", "check"]).json();
    schema::check("policy-check", &json);
    assert_eq!(json["files"][0]["status"], "ignored");
    assert_eq!(json["files"].as_array().unwrap().len(), 1);
    for command in ["plan", "apply", "diff"] {
        let run = machine.run(&["policy", command]);
        assert!(
            run.err.contains("50-a.yml is ignored"),
            "{command}: {run:?}"
        );
    }
}

#[test]
fn files_are_read_in_name_order_wherever_they_are() {
    let machine = Machine::laptop();
    machine.file(&format!("{ETC}/90-last.yaml"), &rule("last", "wifi", "DMA"));
    machine.file(&format!("{LIB}/10-first.yaml"), RELAX_WIFI);
    let run = machine.run(&["--json", "policy", "plan"]);
    assert_eq!(
        run.json()["results"][0]["rules"][0]["name"],
        "the radio is fast"
    );
}

#[test]
fn a_link_to_null_masks_and_any_other_link_is_refused() {
    let machine = Machine::laptop();
    let real = machine.file(&format!("{LIB}/50-radio.yaml"), RELAX_WIFI);
    machine.file(&format!("{ETC}/keep"), "");
    let link = machine.root(&format!("{ETC}/50-radio.yaml"));
    symlink("/dev/null", &link).unwrap();
    assert_eq!(machine.run(&["policy", "apply"]).code, 0);
    assert_eq!(machine.type_of(14), "DMA\n");
    fs::remove_file(&link).unwrap();
    symlink(&real, &link).unwrap();
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("is a link to"), "{}", run.err);
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn what_others_can_write_stops_it_all() {
    let chmod = |path: &std::path::Path, mode| {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    for path in [
        format!("{ETC}/50-site.yaml"),
        ETC.to_owned(),
        "etc/iommuctl".to_owned(),
    ] {
        let machine = Machine::laptop().with_policy(RELAX_WIFI);
        let mode = if path.ends_with("yaml") { 0o666 } else { 0o777 };
        chmod(&machine.root(&path), mode);
        for command in ["apply", "plan", "check", "diff"] {
            let run = machine.run(&["policy", command]);
            assert_eq!(run.code, 1, "{path} {command}: {run:?}");
            assert!(run.err.contains("chmod go-w"), "{}", run.err);
        }
        assert_eq!(machine.type_of(14), "DMA\n");
    }
}

#[test]
fn all_that_is_wrong_is_said_at_once() {
    let rules = "version: 1\nrules:\n\
                 - { name: a, matches: { class: nvme }, type: DMA }\n\
                 - { name: b, match: { class: nvme }, type: lazy }\n";
    let machine = Machine::laptop().with_policy(rules);
    let run = machine.run(&["policy", "check"]);
    assert_eq!(run.code, 1, "{run:?}");
    for words in ["2 errors", ":3:14: rule `a`", ":4:44: rule `b`"] {
        assert!(run.err.contains(words), "{words} is missing: {}", run.err);
    }
}

#[test]
fn one_wrong_file_stops_it_all() {
    let machine = Machine::laptop().with_policy(RELAX_WIFI);
    machine.file(&format!("{LIB}/99-wrong.yaml"), "version: 1\nrule: []\n");
    let run = machine.run(&["policy", "apply"]);
    assert_eq!(run.code, 1, "{run:?}");
    let words = "/usr/lib/iommuctl/policy.d/99-wrong.yaml:2:1: unknown key `rule`";
    assert!(run.err.contains(words), "{}", run.err);
    assert!(run.err.contains("did you mean `rules`?"), "{}", run.err);
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn kernel_command_line_switches_it_off_or_to_another_file_at_boot() {
    let machine = Machine::laptop().with_policy(RELAX_WIFI);
    let cmdline = |words: &str| fs::write(machine.root("proc/cmdline"), words).unwrap();
    let boot = || machine.run(&["policy", "apply", "--boot"]);

    cmdline("quiet iommuctl.policy=off\n");
    let run = boot();
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.out.contains("nothing is applied"), "{}", run.out);
    assert_eq!(machine.type_of(14), "DMA\n");

    cmdline("iommuctl.policy=/etc/other.yaml\n");
    let run = boot();
    assert_eq!(run.code, 1, "{run:?}");
    assert!(run.err.contains("/etc/other.yaml"), "{}", run.err);
    machine.file("etc/other.yaml", "version: 1\n");
    assert_eq!(boot().code, 0);
    assert_eq!(machine.type_of(14), "DMA\n");

    cmdline("iommuctl.policy=none\n");
    assert_eq!(boot().code, 1);

    cmdline("quiet\n");
    assert_eq!(boot().code, 0);
    assert_eq!(machine.type_of(14), "DMA-FQ\n");
}

#[test]
fn a_policy_of_ones_own_is_looked_at_but_not_applied_if_others_can_write_it() {
    let machine = Machine::laptop();
    let mine = machine.file("home/mine.yaml", RELAX_WIFI);
    fs::set_permissions(&mine, fs::Permissions::from_mode(0o666)).unwrap();
    let path = mine.to_str().unwrap();
    let run = machine.run(&["policy", "check", path]);
    assert_eq!(run.code, 0, "{run:?}");
    let words = "`policy apply` will not take this file";
    assert!(run.err.contains(words), "{}", run.err);
    let run = machine.run(&["policy", "plan", "--policy", path]);
    assert_eq!(run.code, 0, "{run:?}");
    assert!(run.err.contains(words), "{}", run.err);
    assert!(run.out.contains("would become DMA-FQ"), "{}", run.out);
    let run = machine.run(&["policy", "apply", "--policy", path]);
    assert_eq!(run.code, 1, "{run:?}");
    assert_eq!(machine.type_of(14), "DMA\n");
}

#[test]
fn generated_policy_finds_nothing_to_do() {
    let machine = Machine::laptop();
    let generated = machine.run(&["policy", "generate"]).out;
    let machine = machine.with_policy(&generated);
    let run = machine.run(&["policy", "apply", "--check"]);
    assert_eq!(run.code, 0, "{run:?}");
    assert_eq!(machine.run(&["policy", "diff"]).code, 0);
}

#[test]
fn generated_policy_says_which_external_device_it_makes_strict() {
    let machine = Machine::laptop();
    assert!(!machine
        .run(&["policy", "generate"])
        .out
        .contains("Stricter"));
    fs::write(machine.type_file(16), "DMA-FQ\n").unwrap();
    let run = machine.run(&["policy", "generate"]);
    let words = "# Stricter than now: 0000:04:00.0";
    assert!(run.out.contains(words), "{}", run.out);
    assert!(
        run.out.contains("DMA-FQ now and becomes DMA."),
        "{}",
        run.out
    );
}

#[test]
fn schema_is_json() {
    let schema = Machine::laptop().run(&["policy", "schema"]).json();
    assert_eq!(schema["title"], "A policy of iommuctl");
}

#[test]
fn firmware_path_and_modalias_are_read() {
    let machine = Machine::laptop();
    let device = "sys/devices/pci0000:00/0000:00:1c.0/0000:02:00.0";
    machine.file(&format!("{device}/modalias"), "pci:v00008086d00002723sv*\n");
    machine.file(
        "sys/devices/LNXSYSTM:00/device:1f/path",
        "\\_SB_.PCI0.RP09.PXSX\n",
    );
    let node = machine.root(&format!("{device}/firmware_node"));
    symlink("../../../LNXSYSTM:00/device:1f", node).unwrap();
    let keys = "{ firmware: '\\_SB_.PCI0.RP09.*', modalias: \"pci:v00008086d*\" }";
    let machine = machine.with_policy(&format!(
        "version: 1\nrules:\n  - {{ name: slot, match: {keys}, type: DMA-FQ }}\n"
    ));
    let run = machine.run(&["--json", "policy", "plan"]);
    assert_eq!(run.groups(), [14], "{run:?}");
}

// SPDX-License-Identifier: GPL-2.0-only
//! What is true of every policy on every machine.

use iommuctl_policy::{
    evaluate, generate, parse, plan, Decision, DomainType, Group, Inventory, Planned, Policy, Step,
    Strictness,
};

use crate::random::{self, Random};

const CASES: u64 = 3000;

fn read(text: &str) -> Policy {
    let file = parse(text).unwrap_or_else(|e| panic!("{e}\n{text}"));
    Policy::from_files(vec![("random.yaml".to_owned(), file)])
}

/// The type each group has if everything that is planned is done.
fn afterwards(policy: &Policy, inventory: &Inventory) -> Vec<Option<DomainType>> {
    let planned = plan(&evaluate(policy, inventory), inventory);
    let after = |p: Planned| match p.step {
        Step::Change { request, .. } => request.result(),
        _ => p.current,
    };
    planned.into_iter().map(after).collect()
}

#[test]
fn the_order_of_devices_and_groups_changes_nothing() {
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let policy = read(&random::policy(&mut random, 8));
        let inventory = random::inventory(&mut random, 6);
        let mut groups: Vec<Group> = inventory.groups().to_vec();
        for group in &mut groups {
            group.devices.reverse();
        }
        groups.reverse();
        let reversed = Inventory::new(groups);
        let sort = |mut decision: Decision| {
            decision.votes.sort_by(|a, b| a.device.cmp(&b.device));
            decision.unforced.sort();
            decision
        };
        let one: Vec<Decision> = evaluate(&policy, &inventory)
            .into_iter()
            .map(sort)
            .collect();
        let other: Vec<Decision> = evaluate(&policy, &reversed).into_iter().map(sort).collect();
        assert_eq!(one, other, "seed {seed}");
        let again = evaluate(&policy, &inventory);
        assert_eq!(again, evaluate(&policy, &inventory), "seed {seed}");
    }
}

#[test]
fn a_stricter_rule_placed_first_never_makes_the_machine_laxer() {
    let mut effects = 0;
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let text = random::policy(&mut random, 8);
        let rule = random::rule(&mut random, 0, "DMA");
        let stricter = text.replacen("rules:\n", &format!("rules:\n{rule}"), 1);
        let inventory = random::inventory(&mut random, 6);
        let before = afterwards(&read(&text), &inventory);
        let after = afterwards(&read(&stricter), &inventory);
        for (before, after) in before.iter().zip(&after) {
            let of = |t: &Option<DomainType>| t.as_ref().and_then(Strictness::of_type);
            assert!(
                before == after || of(after) >= of(before),
                "seed {seed}: {before:?} became {after:?} with\n{stricter}"
            );
            effects += usize::from(before != after);
        }
    }
    assert!(effects > 100, "the rule placed first did nothing");
}

#[test]
fn without_force_no_external_device_is_relaxed() {
    let mut refused = 0;
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let text = random::policy(&mut random, 8).replace(", force: true, reason: because", "");
        let inventory = random::inventory(&mut random, 6);
        let planned = plan(&evaluate(&read(&text), &inventory), &inventory);
        for (group, planned) in inventory.groups().iter().zip(planned) {
            refused += usize::from(matches!(planned.step, Step::Forbidden { .. }));
            let Step::Change { request, force } = planned.step else {
                continue;
            };
            assert!(!force, "seed {seed}");
            let now = group.domain_type.as_ref().and_then(Strictness::of_type);
            let laxer = Strictness::of_request(request) < now;
            assert!(
                !laxer || group.external().next().is_none(),
                "seed {seed}: {group:?} becomes {request}"
            );
        }
    }
    assert!(refused > 100, "no external device was asked to be relaxed");
}

#[test]
fn a_plan_that_was_done_leaves_nothing_to_do() {
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let policy = read(&random::policy(&mut random, 8));
        let inventory = random::inventory(&mut random, 6);
        let types = afterwards(&policy, &inventory);
        let mut groups = inventory.groups().to_vec();
        for (group, domain_type) in groups.iter_mut().zip(types) {
            group.domain_type = domain_type;
        }
        let done = Inventory::new(groups);
        let planned = plan(&evaluate(&policy, &done), &done);
        let changes = planned
            .iter()
            .filter(|p| matches!(p.step, Step::Change { .. }));
        assert_eq!(changes.count(), 0, "seed {seed}");
    }
}

#[test]
fn a_generated_policy_keeps_the_machine_as_it_is() {
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let inventory = random::inventory(&mut random, 6);
        let text = iommuctl_policy::write(&generate(&inventory).file).unwrap();
        let policy = read(&text);
        let planned = plan(&evaluate(&policy, &inventory), &inventory);
        for (group, planned) in inventory.groups().iter().zip(planned) {
            let external = group.external().next().is_some();
            assert!(
                external || !matches!(planned.step, Step::Change { .. }),
                "seed {seed}: {group:?}\n{text}"
            );
        }
    }
}

#[test]
fn a_rule_matches_if_and_only_if_no_key_is_against_it() {
    for seed in 0..CASES {
        let mut random = Random::new(seed);
        let policy = read(&random::policy(&mut random, 4));
        let device = random::device(&mut random, 7);
        for rule in &policy.rules {
            let matches = &rule.rule.matches;
            let mismatch = matches.mismatch(&device);
            assert_eq!(matches.matches(&device), mismatch.is_none(), "seed {seed}");
        }
    }
}

// SPDX-License-Identifier: GPL-2.0-only
//! The engine on a kernel that fails, loses devices, or has the process killed, at every place there is.

use std::collections::BTreeSet;
use std::time::Duration;

use nix::errno::Errno;

use super::account::End;
use super::engine::{recover, run};
use super::fake::{plan, Fake};
use super::machine::{Bound, Machine, WriteError};
use super::plan::{Override, Plan, Subject};

const TYPES: [&str; 3] = ["DMA", "DMA-FQ", "identity"];
const ENOUGH: Duration = Duration::from_secs(10);

fn two(request: &str) -> Plan {
    plan(&["0000:02:00.0", "0000:02:01.0"], "DMA-FQ", request)
}

fn is_old_or_new(fake: &Fake, plan: &Plan) -> bool {
    [&plan.old_type, &plan.request].contains(&&fake.domain_type)
}

#[test]
fn every_type_to_every_other() {
    for old in TYPES {
        for request in TYPES.into_iter().chain(["auto"]).filter(|r| *r != old) {
            let plan = plan(&["0000:02:00.0", "0000:02:01.0"], old, request);
            let mut fake = Fake::new(&plan);
            let account = run(&mut fake, &plan, ENOUGH);
            assert_eq!(
                (account.end, account.whole),
                (End::Done, true),
                "{old} {request}"
            );
            assert_eq!(fake.writes, plan.writes(), "{old} {request}");
            assert_eq!(fake.records, plan.steps(), "{old} {request}");
            assert!(fake.is_whole(&plan));
            assert!(account.devices.iter().all(|d| d.took.is_some()));
            let wanted = plan.wanted().map(|t| t.to_string());
            assert!(wanted.is_none_or(|w| w == fake.domain_type));
        }
    }
}

#[test]
fn any_one_write_may_fail() {
    let plan = two("identity");
    let all = plan.writes().len();
    let broken = WriteError::Broken("no answer".to_owned());
    for error in [WriteError::Errno(Errno::EIO), broken] {
        for number in 0..all {
            let mut fake = Fake::new(&plan);
            fake.fails.insert(number, error.clone());
            let account = run(&mut fake, &plan, ENOUGH);
            assert!(account.whole, "{number}: {account:?}");
            assert!(is_old_or_new(&fake, &plan), "{number}: {fake:?}");
            let bound = |s: &Subject| fake.clone().bound(s) == Bound::To(s.driver.clone());
            assert!(plan.subjects.iter().all(bound), "{number}: {fake:?}");
            // That driver_override was not cleared undoes nothing: it names the driver that the device has.
            let cleared = plan.writes()[number].text.is_empty();
            assert_eq!(
                account.end,
                if cleared { End::Done } else { End::Failed },
                "{number}"
            );
            assert_eq!(account.notes.is_empty(), !cleared, "{number}: {account:?}");
        }
    }
}

#[test]
fn what_the_kernel_does_not_finish_costs_only_its_own_device() {
    let plan = two("identity");
    for number in 0..plan.writes().len() {
        let mut fake = Fake::new(&plan);
        fake.fails.insert(number, WriteError::StillWorking);
        let account = run(&mut fake, &plan, ENOUGH);
        let cleared = plan.writes()[number].text.is_empty();
        let end = if cleared { End::Done } else { End::TimedOut };
        assert_eq!(account.end, end, "{number}");
        assert!(!account.whole, "{number}");
        let lost = |s: &&Subject| fake.clone().bound(s) == Bound::Nothing;
        assert!(plan.subjects.iter().filter(lost).count() <= 1, "{number}");
    }
}

#[test]
fn killed_anywhere_it_can_be_recovered() {
    for request in ["DMA", "identity", "auto"] {
        let plan = two(request);
        let mut seen = BTreeSet::new();
        for life in 0..100 {
            let mut fake = Fake::new(&plan);
            fake.life = Some(life);
            run(&mut fake, &plan, ENOUGH);
            let ended = fake.life.take() != Some(0);
            seen.insert(fake.writes.len());
            let account = recover(&mut fake, &plan, ENOUGH);
            assert!(account.whole && fake.is_whole(&plan), "{life}: {fake:?}");
            assert!(is_old_or_new(&fake, &plan) || request == "auto", "{life}");
            if ended {
                break;
            }
        }
        assert_eq!(seen.len(), plan.writes().len() + 1);
    }
}

#[test]
fn recovering_may_be_killed_as_well() {
    let plan = two("identity");
    for first in 0..40 {
        for second in 0..20 {
            let mut fake = Fake::new(&plan);
            fake.life = Some(first);
            run(&mut fake, &plan, ENOUGH);
            fake.life = Some(second);
            recover(&mut fake, &plan, ENOUGH);
            fake.life = None;
            recover(&mut fake, &plan, ENOUGH);
            assert!(fake.is_whole(&plan), "{first} {second}: {fake:?}");
        }
    }
}

#[test]
fn stopping_leaves_nothing_unbound() {
    let plan = two("identity");
    for at in 0..plan.writes().len() {
        let mut fake = Fake::new(&plan);
        fake.stop_at = Some(at);
        let account = run(&mut fake, &plan, ENOUGH);
        assert!(account.whole && fake.is_whole(&plan), "{at}: {fake:?}");
        // Once the type is written, the rest is no more than bringing back.
        let stopped = fake.domain_type == plan.old_type;
        assert_eq!(
            account.end,
            if stopped { End::Stopped } else { End::Done },
            "{at}"
        );
        assert_eq!(stopped, at <= 4, "{at}");
    }
}

#[test]
fn type_that_no_driver_can_live_with_is_undone() {
    let plan = two("identity");
    let mut fake = Fake::new(&plan);
    fake.unusable = vec!["identity".to_owned()];
    let account = run(&mut fake, &plan, ENOUGH);
    assert_eq!((account.end, account.whole), (End::Failed, true));
    assert_eq!(fake.domain_type, "DMA-FQ");
    assert!(fake.is_whole(&plan), "{fake:?}");
}

#[test]
fn type_is_believed_only_when_it_is_read_back() {
    let plan = two("identity");
    let mut fake = Fake::new(&plan);
    fake.ignores_type = true;
    let account = run(&mut fake, &plan, ENOUGH);
    assert_eq!((account.end, account.whole), (End::Failed, true));
    let message = account.trouble.unwrap().message;
    assert!(message.contains("says afterwards"), "{message}");
}

#[test]
fn one_lost_device_does_not_cost_the_others() {
    let plan = two("identity");
    for lost in &plan.subjects {
        let mut fake = Fake::new(&plan);
        fake.lost = vec![lost.name.clone()];
        let account = run(&mut fake, &plan, ENOUGH);
        assert_eq!((account.end, account.whole), (End::Failed, false));
        assert_eq!(fake.domain_type, "DMA-FQ");
        for subject in &plan.subjects {
            let now = fake.bound(subject);
            let wanted = if subject.name == lost.name {
                Bound::Nothing
            } else {
                Bound::To(subject.driver.clone())
            };
            assert_eq!(now, wanted, "{}", subject.name);
        }
        // It stays reserved, so that its driver takes it when it is loaded.
        assert_eq!(fake.driver_override(lost).as_deref(), Some("nvme"));
        fake.lost.clear();
        assert!(recover(&mut fake, &plan, ENOUGH).whole && fake.is_whole(&plan));
    }
}

#[test]
fn slow_disks_are_waited_for_and_lost_ones_are_reported() {
    let plan = two("identity");
    let mut fake = Fake::new(&plan);
    fake.slow = 30;
    let account = run(&mut fake, &plan, ENOUGH);
    assert_eq!(account.end, End::Done);
    assert!(account.devices[0].took > Some(Duration::from_millis(600)));
    let mut fake = Fake::new(&plan);
    fake.slow = usize::MAX;
    let account = run(&mut fake, &plan, ENOUGH);
    assert_eq!(account.end, End::Failed);
    let message = account.trouble.unwrap().message;
    assert!(message.contains("come back in 10 s"), "{message}");
    assert!(fake.is_whole(&plan) || fake.domain_type == "DMA-FQ");
}

#[test]
fn driver_that_grabs_a_device_has_to_let_go() {
    let mut plan = two("identity");
    for subject in &mut plan.subjects {
        subject.driver_override = Override::None;
    }
    let mut fake = Fake::new(&plan);
    fake.grabber = Some("vfio-pci".to_owned());
    let account = run(&mut fake, &plan, ENOUGH);
    // The kernel says at once that it is bound again, and the type is not even tried.
    assert_eq!((account.end, account.whole), (End::Failed, true));
    assert!(fake.is_whole(&plan), "{fake:?}");
    // With driver_override it cannot grab anything.
    let plan = two("identity");
    let mut fake = Fake::new(&plan);
    fake.grabber = Some("vfio-pci".to_owned());
    assert_eq!(run(&mut fake, &plan, ENOUGH).end, End::Done);
}

#[test]
fn what_somebody_decided_meanwhile_is_respected() {
    let plan = two("identity");
    let mut fake = Fake::new(&plan);
    let vfio = Some("vfio-pci".to_owned());
    let name = plan.subjects[0].name.clone();
    fake.devices
        .insert(name.clone(), Some((vfio.clone(), vfio.clone())));
    let account = recover(&mut fake, &plan, ENOUGH);
    assert!(account.whole, "{account:?}");
    assert_eq!(fake.devices[&name], Some((vfio.clone(), vfio)));
}

#[test]
fn device_that_is_gone_is_no_failure() {
    let plan = two("identity");
    let mut fake = Fake::new(&plan);
    fake.devices.insert(plan.subjects[0].name.clone(), None);
    let account = run(&mut fake, &plan, ENOUGH);
    assert_eq!((account.end, account.whole), (End::Done, true));
    assert!(account.notes.join("").contains("is gone"), "{account:?}");
}

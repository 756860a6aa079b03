// SPDX-License-Identifier: GPL-2.0-only
//! A policy that keeps a machine as it is.

use std::collections::BTreeMap;

use crate::{
    AddressPattern, AnyOf, Defaults, Device, DomainType, Glob, Goal, Group, Inventory, Match, Name,
    PciId, PolicyFile, Rule, VERSION,
};

/// A generated policy, and what could not be put into it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Generated {
    /// The policy.
    pub file: PolicyFile,
    /// What is not in it and why, one line each.
    pub left_out: Vec<String>,
    /// What is laxer now than the policy makes it, one line each.
    pub tightened: Vec<String>,
}

/// What the same kind of card has in common.
type Model = (PciId, PciId, Option<PciId>, Option<PciId>);

fn model(device: &Device) -> Option<Model> {
    Some((
        device.vendor?,
        device.device?,
        device.subsystem_vendor,
        device.subsystem_device,
    ))
}

fn goal(group: &Group) -> Option<Goal> {
    match group.domain_type.as_ref()? {
        DomainType::Dma => Some(Goal::Dma),
        DomainType::DmaFq => Some(Goal::DmaFq),
        DomainType::Identity => Some(Goal::Identity),
        DomainType::Blocked | DomainType::Unmanaged | DomainType::Unknown(_) => None,
    }
}

fn rule(name: String, matches: Match, goal: Goal) -> Rule {
    Rule {
        name,
        matches,
        goal,
        route: None,
        on_failure: crate::OnFailure::default(),
        force: false,
        reason: None,
    }
}

/// Makes a policy under which every group of `inventory` stays what it is, by what its devices are and not by where they
/// sit, as far as that tells them apart. Groups with an external device are left strict.
#[must_use]
pub fn generate(inventory: &Inventory) -> Generated {
    let mut left_out = Vec::new();
    let tightened = inventory.groups().iter().filter_map(tightened).collect();
    // What each model of card has, in all its groups: `None` once they differ.
    let mut models: BTreeMap<Model, Option<Goal>> = BTreeMap::new();
    let mut wanted: Vec<(&Device, Goal)> = Vec::new();
    for group in inventory.groups() {
        // A rule about a model names its bridges, too; they are not to be asked.
        for model in group
            .devices
            .iter()
            .filter(|d| !d.does_dma())
            .filter_map(model)
        {
            models.insert(model, None);
        }
        let voters: Vec<&Device> = group.devices.iter().filter(|d| d.does_dma()).collect();
        if voters.is_empty() || group.external().next().is_some() {
            continue;
        }
        let Some(goal) = goal(group) else {
            // A rule about their models would be about them, too.
            for model in voters.iter().filter_map(|d| model(d)) {
                models.insert(model, None);
            }
            let shown = group.domain_type.as_ref().map_or("no", DomainType::as_str);
            left_out.push(format!(
                "{}: its group has {shown} type that a policy can ask for",
                voters
                    .iter()
                    .map(|d| d.name.as_str())
                    .collect::<Vec<_>>()
                    .join(", ")
            ));
            continue;
        };
        for device in voters {
            if let Some(model) = model(device) {
                models
                    .entry(model)
                    .and_modify(|known| *known = known.filter(|k| *k == goal))
                    .or_insert(Some(goal));
            }
            wanted.push((device, goal));
        }
    }
    let external = Match {
        external: Some(true),
        ..Match::default()
    };
    let first = rule(
        "external devices are strict".to_owned(),
        external,
        Goal::Dma,
    );
    let (mut single, mut shared) = (vec![first], Vec::new());
    for (device, goal) in wanted {
        let uniform = model(device).and_then(|m| models.get(&m).copied().flatten());
        match (model(device), uniform) {
            // One rule for all cards of a model, at the place of the first.
            (Some(model), Some(_)) => {
                if models.remove(&model).is_some() {
                    shared.push(rule(device_name(device), by_model(model), goal));
                }
            }
            (Some(known), None) if !models.contains_key(&known) => {}
            _ => match by_place(device) {
                Some(matches) => single.push(rule(device_name(device), matches, goal)),
                None => left_out.push(format!(
                    "{}: nothing but its name tells it apart",
                    device.name
                )),
            },
        }
    }
    single.append(&mut shared);
    Generated {
        file: PolicyFile {
            version: VERSION,
            defaults: Defaults::default(),
            rules: single,
        },
        left_out,
        tightened,
    }
}

/// Says it if `group` has an external device and is not strict, as the policy wants it.
fn tightened(group: &Group) -> Option<String> {
    let now = goal(group).filter(|goal| *goal != Goal::Dma)?;
    let names: Vec<&str> = group.external().map(|d| d.name.as_str()).collect();
    let is_asked = group.devices.iter().any(Device::does_dma);
    (is_asked && !names.is_empty()).then(|| {
        format!(
            "{}: external, its group is {now} now and becomes {}",
            names.join(", "),
            Goal::Dma
        )
    })
}

fn device_name(device: &Device) -> String {
    match &device.driver {
        Some(driver) => format!("{} ({driver})", device.name),
        None => device.name.clone(),
    }
}

fn by_model((vendor, device, subsystem_vendor, subsystem_device): Model) -> Match {
    Match {
        vendor: Some(AnyOf::one(vendor)),
        device: Some(AnyOf::one(device)),
        subsystem_vendor: subsystem_vendor.map(AnyOf::one),
        subsystem_device: subsystem_device.map(AnyOf::one),
        ..Match::default()
    }
}

/// By where it is: its address, or what firmware calls it.
fn by_place(device: &Device) -> Option<Match> {
    if let Some(address) = device.address {
        return Some(Match {
            address: Some(AnyOf::one(AddressPattern::Exact(address))),
            ..Match::default()
        });
    }
    let firmware = device.firmware.as_deref()?;
    Some(Match {
        bus: device.bus.as_deref().map(|b| AnyOf::one(Name::new(b))),
        firmware: Some(AnyOf::one(Glob::new(firmware))),
        ..Match::default()
    })
}

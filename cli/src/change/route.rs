// SPDX-License-Identifier: GPL-2.0-only
//! Decides by which route a type is changed, from values alone.
//!
//! The rules follow `iommu_group_store_type` in `drivers/iommu/iommu.c`: the kernel relaxes `DMA` to `DMA-FQ` at any time, and
//! makes any other change only in a group with devices of which none is in use by a driver. They are extended by safety rules
//! of our own, because the kernel's live relax checks less than its other paths do.

use iommuctl_policy::{DomainType, Group, Route, RouteLimit, TypeRequest};

use super::advice;

/// The routes that the user allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Allowed {
    /// Routes that interrupt no device.
    Live,
    /// Routes that interrupt no device, and a rebind where there is no other route.
    Any,
    /// A rebind, whenever a driver would have to be unbound for the change to be certain.
    Rebind,
}

impl Allowed {
    /// The routes that a policy allows. `boot` permits waiting for the next boot, and no interruption.
    #[must_use]
    pub fn of_policy(limit: RouteLimit) -> Self {
        match limit {
            RouteLimit::Live | RouteLimit::Boot => Self::Live,
            RouteLimit::Rebind => Self::Any,
        }
    }
}

/// The decision about one group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Decision {
    /// Change it by this route.
    Go {
        /// The route.
        route: Route,
        /// Why this one.
        why: &'static str,
    },
    /// Do not change it.
    Refuse(Refusal),
}

/// A refusal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// The route it would need, if there is one.
    pub needs: Option<Route>,
    /// The reason.
    pub reason: String,
    /// What would work instead, one line each.
    pub advice: Vec<String>,
}

fn go(route: Route, why: &'static str) -> Decision {
    Decision::Go { route, why }
}

fn refuse(needs: Option<Route>, reason: String, advice: Vec<String>) -> Decision {
    Decision::Refuse(Refusal {
        needs,
        reason,
        advice,
    })
}

/// Chooses how to change `group` to `request`, among the routes that `allowed` permits.
///
/// `module` says whether `iommu_live` is loaded.
#[must_use]
pub fn decide(group: &Group, request: TypeRequest, module: bool, allowed: Allowed) -> Decision {
    let satisfied = request.result() == group.domain_type;
    match safety(group, request) {
        Some(refusal) if group.domain_type.is_some() && !satisfied => Decision::Refuse(refusal),
        _ => decide_by_force(group, request, module, allowed),
    }
}

/// As [`decide`], without our own safety rules; those are for a policy rule with `force` to override.
#[must_use]
pub fn decide_by_force(
    group: &Group,
    request: TypeRequest,
    module: bool,
    allowed: Allowed,
) -> Decision {
    let Some(current) = &group.domain_type else {
        let reason = "the kernel does not show its type".to_owned();
        return refuse(None, reason, vec![advice::NEEDS_TYPE_FILE.to_owned()]);
    };
    // Do not even write it: while a driver is bound, a stock kernel returns EPERM for the type that a group has already.
    if request.result().as_ref() == Some(current) {
        return go(Route::None, "the group has this type already");
    }
    if allowed == Allowed::Rebind {
        return replace(group, current, request, allowed);
    }
    match (current, request) {
        (DomainType::Dma, TypeRequest::DmaFq) if module => go(
            Route::Module,
            "iommu_live checks the devices and the IOMMU driver first",
        ),
        (DomainType::Dma, TypeRequest::DmaFq) => go(
            Route::Sysfs,
            "the kernel relaxes a group while its devices are in use",
        ),
        (DomainType::DmaFq, TypeRequest::Dma) if module => go(
            Route::Module,
            "iommu_live tightens a group while its devices are in use",
        ),
        _ => replace(group, current, request, allowed),
    }
}

/// What is refused whatever the route.
fn safety(group: &Group, request: TypeRequest) -> Option<Refusal> {
    let gives_up = match request {
        TypeRequest::DmaFq => "could reach memory after it was freed",
        TypeRequest::Identity => "could reach all memory",
        TypeRequest::Dma | TypeRequest::Auto => return None,
    };
    let external: Vec<&str> = group.external().map(|d| d.name.as_str()).collect();
    if external.is_empty() {
        return None;
    }
    Some(Refusal {
        needs: None,
        reason: format!(
            "{} can be plugged in from outside: with {request}, whoever plugs it in {gives_up}",
            external.join(", ")
        ),
        advice: vec!["leave groups with external devices at DMA".to_owned()],
    })
}

/// A change that replaces the group's domain: only possible without drivers.
fn replace(
    group: &Group,
    current: &DomainType,
    request: TypeRequest,
    allowed: Allowed,
) -> Decision {
    if group.devices.is_empty() {
        let reason = "the group has no devices, and the kernel changes no empty group".to_owned();
        return refuse(None, reason, Vec::new());
    }
    if group.holders().next().is_none() {
        return go(Route::Sysfs, "no driver is using the devices of the group");
    }
    if allowed != Allowed::Live {
        return go(
            Route::Rebind,
            "the drivers that hold the group are unbound for the change",
        );
    }
    let reason = format!(
        "the kernel does not change {current} to {request} while a driver is bound: {}",
        advice::holders(group)
    );
    // Not reached for changes that a loaded module may make live.
    let ways = advice::ways_to(current, request, false);
    refuse(Some(Route::Rebind), reason, ways)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::group;

    const NVME: &[(&str, Option<&str>)] = &[("0000:01:00.0", Some("nvme"))];
    const UNBOUND: &[(&str, Option<&str>)] = &[("0000:01:00.0", None)];

    fn route(decision: &Decision) -> Option<Route> {
        match decision {
            Decision::Go { route, .. } => Some(*route),
            Decision::Refuse(_) => None,
        }
    }

    fn refusal(decision: Decision) -> Refusal {
        match decision {
            Decision::Refuse(refusal) => refusal,
            Decision::Go { route, .. } => panic!("takes route {route}"),
        }
    }

    fn live(group: &Group, request: TypeRequest, module: bool) -> Decision {
        decide(group, request, module, Allowed::Live)
    }

    #[test]
    fn table_of_routes() {
        use TypeRequest as To;
        let cases = [
            // current, devices, request, without the module, with it
            ("DMA", NVME, To::Dma, Some(Route::None), Some(Route::None)),
            (
                "DMA",
                NVME,
                To::DmaFq,
                Some(Route::Sysfs),
                Some(Route::Module),
            ),
            (
                "DMA",
                UNBOUND,
                To::DmaFq,
                Some(Route::Sysfs),
                Some(Route::Module),
            ),
            ("DMA-FQ", NVME, To::Dma, None, Some(Route::Module)),
            (
                "DMA-FQ",
                UNBOUND,
                To::Dma,
                Some(Route::Sysfs),
                Some(Route::Module),
            ),
            ("DMA", NVME, To::Identity, None, None),
            (
                "DMA",
                UNBOUND,
                To::Identity,
                Some(Route::Sysfs),
                Some(Route::Sysfs),
            ),
            (
                "identity",
                UNBOUND,
                To::Auto,
                Some(Route::Sysfs),
                Some(Route::Sysfs),
            ),
            ("identity", NVME, To::DmaFq, None, None),
            ("unknown", NVME, To::Dma, None, None),
        ];
        for (current, devices, request, plain, with_module) in cases {
            let group = group(7, current, devices);
            let case = format!("{current} to {request} with {devices:?}");
            assert_eq!(route(&live(&group, request, false)), plain, "{case}");
            assert_eq!(
                route(&live(&group, request, true)),
                with_module,
                "{case}, module"
            );
        }
    }

    #[test]
    fn refused_tighten_says_who_and_what_would_work() {
        let refusal = refusal(live(&group(7, "DMA-FQ", NVME), TypeRequest::Dma, false));
        assert_eq!(refusal.needs, Some(Route::Rebind));
        assert!(refusal.reason.contains("0000:01:00.0 (nvme)"));
        let advice = refusal.advice.join("\n");
        assert!(advice.contains("modprobe iommu_live"), "{advice}");
        assert!(advice.contains("iommu.strict=1"), "{advice}");
    }

    #[test]
    fn external_devices_are_never_relaxed() {
        let mut group = group(7, "DMA", NVME);
        group.devices[0].removable = Some(iommuctl_policy::Removable::Removable);
        for module in [false, true] {
            for request in [TypeRequest::DmaFq, TypeRequest::Identity] {
                let refusal = refusal(live(&group, request, module));
                assert!(
                    refusal.reason.contains("0000:01:00.0"),
                    "{}",
                    refusal.reason
                );
            }
            assert_eq!(
                route(&live(&group, TypeRequest::Dma, module)),
                Some(Route::None)
            );
        }
    }

    #[test]
    fn force_overrides_our_rule_and_no_other() {
        let mut group = group(7, "DMA", NVME);
        group.devices[0].removable = Some(iommuctl_policy::Removable::Removable);
        let forced = |request| decide_by_force(&group, request, false, Allowed::Live);
        assert_eq!(route(&forced(TypeRequest::DmaFq)), Some(Route::Sysfs));
        assert_eq!(
            refusal(forced(TypeRequest::Identity)).needs,
            Some(Route::Rebind)
        );
    }

    #[test]
    fn empty_groups_can_be_relaxed_and_nothing_else() {
        assert_eq!(
            route(&live(&group(7, "DMA", &[]), TypeRequest::DmaFq, false)),
            Some(Route::Sysfs)
        );
        refusal(live(&group(7, "DMA-FQ", &[]), TypeRequest::Dma, false));
    }

    #[test]
    fn ports_do_not_hold_a_group() {
        let ports: &[(&str, Option<&str>)] = &[("0000:00:1c.0", Some("pcieport"))];
        assert_eq!(
            route(&live(&group(7, "DMA-FQ", ports), TypeRequest::Dma, false)),
            Some(Route::Sysfs)
        );
    }

    #[test]
    fn rebind_only_with_permission() {
        let held = group(7, "DMA-FQ", NVME);
        let by = |request, allowed| route(&decide(&held, request, false, allowed));
        assert_eq!(by(TypeRequest::Dma, Allowed::Live), None);
        assert_eq!(by(TypeRequest::Dma, Allowed::Any), Some(Route::Rebind));
        assert_eq!(by(TypeRequest::Auto, Allowed::Rebind), Some(Route::Rebind));
        assert_eq!(by(TypeRequest::DmaFq, Allowed::Rebind), Some(Route::None));
        // What is possible without an interruption is done so, unless a rebind was asked for by name.
        let strict = group(7, "DMA", NVME);
        let relax = |allowed| route(&decide(&strict, TypeRequest::DmaFq, false, allowed));
        assert_eq!(relax(Allowed::Any), Some(Route::Sysfs));
        assert_eq!(relax(Allowed::Rebind), Some(Route::Rebind));
        // With no driver to unbind there is nothing to interrupt.
        let unbound = group(7, "DMA-FQ", UNBOUND);
        let decision = decide(&unbound, TypeRequest::Identity, false, Allowed::Rebind);
        assert_eq!(route(&decision), Some(Route::Sysfs));
    }

    #[test]
    fn only_a_rule_that_says_rebind_interrupts() {
        assert_eq!(Allowed::of_policy(RouteLimit::Live), Allowed::Live);
        assert_eq!(Allowed::of_policy(RouteLimit::Boot), Allowed::Live);
        assert_eq!(Allowed::of_policy(RouteLimit::Rebind), Allowed::Any);
    }

    #[test]
    fn without_a_type_file_nothing_is_tried() {
        let mut group = group(7, "DMA", NVME);
        group.domain_type = None;
        assert!(refusal(live(&group, TypeRequest::Dma, true))
            .needs
            .is_none());
    }
}

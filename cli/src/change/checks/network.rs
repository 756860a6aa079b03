// SPDX-License-Identifier: GPL-2.0-only
//! Checks whether the machine, or the user's own connection, is reached through a device.

use std::collections::BTreeSet;
use std::net::IpAddr;

use iommuctl_policy::Device;
use nix::ifaddrs::getifaddrs;

use super::{Check, CheckFinding, Inspector};
use crate::sys::kernfs::KernFsError;

impl Inspector<'_> {
    pub(super) fn network(&self, devices: &[&Device]) -> Result<Vec<CheckFinding>, KernFsError> {
        let mut findings = Vec::new();
        for interface in self.proc.default_route_interfaces()? {
            for device in self.devices_of(&interface, devices)? {
                let message = format!(
                    "{} has {interface}, which a default route leads through",
                    device.name
                );
                findings.push(CheckFinding::new(Check::DefaultRoute, device, message));
            }
        }
        let Some(connection) = self.proc.ssh_connection() else {
            return Ok(findings);
        };
        // Check both the route to the peer and the address it connected to: as a rule they are of one interface.
        let mut interfaces: BTreeSet<String> = BTreeSet::new();
        interfaces.extend(self.proc.interface_towards(connection.client)?);
        if self.sysfs.is_real() {
            interfaces.extend(interfaces_with(connection.server));
        }
        for interface in interfaces {
            for device in self.devices_of(&interface, devices)? {
                let message = format!(
                    "{} has {interface}, which your own connection from {} comes in through",
                    device.name, connection.client
                );
                findings.push(CheckFinding::new(Check::OwnConnection, device, message));
            }
        }
        Ok(findings)
    }

    /// Those of `devices` that an interface is made of: a bridge, a bond or a VLAN is followed to all its lower devices.
    fn devices_of<'a>(
        &self,
        interface: &str,
        devices: &[&'a Device],
    ) -> Result<Vec<&'a Device>, KernFsError> {
        let link = self
            .sysfs
            .kernfs()
            .link(&format!("class/net/{interface}"))?;
        let Some(path) = link else {
            return Ok(Vec::new());
        };
        let bottoms = self.sysfs.bottoms(&path)?;
        let is_one = |d: &&&Device| bottoms.iter().any(|b| b.is_below(&d.path));
        Ok(devices.iter().filter(is_one).copied().collect())
    }
}

/// The interfaces of this network namespace that have an address.
fn interfaces_with(address: IpAddr) -> Vec<String> {
    let Ok(all) = getifaddrs() else {
        return Vec::new();
    };
    let has = |found: &nix::ifaddrs::InterfaceAddress| {
        let found = found.address.as_ref()?;
        let four = found.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
        let six = found.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip()));
        four.or(six)
    };
    let matching = all.filter(|found| has(found) == Some(address));
    matching.map(|found| found.interface_name).collect()
}

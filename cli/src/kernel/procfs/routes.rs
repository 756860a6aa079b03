// SPDX-License-Identifier: GPL-2.0-only
//! `/proc/net/route` and `/proc/net/ipv6_route`: the main routing tables of this network namespace. Policy routing, VRFs
//! and other namespaces have tables of their own, which are not in there.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::Proc;
use crate::sys::kernfs::KernFsError;

/// Flags of a route (`include/uapi/linux/route.h`, `ipv6_route.h`).
const UP: u32 = 0x1;
const REJECT: u32 = 0x200;

/// The fields of a route that matter here.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Route {
    interface: String,
    network: IpAddr,
    /// Length of the prefix, in bits.
    length: u32,
}

impl Route {
    fn covers(&self, address: IpAddr) -> bool {
        let same = |network: u128, address: u128, width: u32| {
            let shift = width.saturating_sub(self.length);
            let cut = |bits: u128| bits.checked_shr(shift).unwrap_or(0);
            cut(network) == cut(address)
        };
        match (self.network, address) {
            (IpAddr::V4(n), IpAddr::V4(a)) => same(n.to_bits().into(), a.to_bits().into(), 32),
            (IpAddr::V6(n), IpAddr::V6(a)) => same(n.to_bits(), a.to_bits(), 128),
            _ => false,
        }
    }
}

impl Proc {
    /// The interfaces of the default routes.
    pub fn default_route_interfaces(&self) -> Result<BTreeSet<String>, KernFsError> {
        let routes = self.routes()?.into_iter();
        let defaults = routes.filter(|r| r.length == 0 && r.interface != "lo");
        Ok(defaults.map(|r| r.interface).collect())
    }

    /// The interface that packets to `address` leave by; `None` if there is no route.
    pub fn interface_towards(&self, address: IpAddr) -> Result<Option<String>, KernFsError> {
        let routes = self.routes()?.into_iter();
        let best = routes
            .filter(|r| r.covers(address))
            .max_by_key(|r| r.length);
        Ok(best.map(|r| r.interface))
    }

    fn routes(&self) -> Result<Vec<Route>, KernFsError> {
        let me = self.me()?;
        let four = self.lines(&format!("{me}/net/route"))?;
        let six = self.lines(&format!("{me}/net/ipv6_route"))?;
        let four = four.iter().skip(1).filter_map(|l| v4(l));
        Ok(four.chain(six.iter().filter_map(|l| v6(l))).collect())
    }
}

/// `eth0 00000000 0202000A 0003 0 0 0 00000000 0 0 0`: interface, destination, gateway, flags, three counters, mask.
fn v4(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let number = |n: usize| u32::from_str_radix(words.get(n)?, 16).ok();
    let flags = number(3)?;
    // Both are printed as they are in memory, in network byte order.
    let address = |n: usize| number(n).map(|v| Ipv4Addr::from(v.to_ne_bytes()));
    (flags & UP != 0 && flags & REJECT == 0).then_some(())?;
    Some(Route {
        interface: (*words.first()?).to_owned(),
        network: address(1)?.into(),
        length: address(7)?.to_bits().leading_ones(),
    })
}

/// Destination, length of its prefix, source, length, next hop, metric, two counters, flags, interface.
fn v6(line: &str) -> Option<Route> {
    let words: Vec<&str> = line.split_ascii_whitespace().collect();
    let word = |n: usize| words.get(n).copied();
    let flags = u32::from_str_radix(word(8)?, 16).ok()?;
    (flags & UP != 0 && flags & REJECT == 0).then_some(())?;
    let network = u128::from_str_radix(word(0)?, 16).ok()?;
    Some(Route {
        interface: word(9)?.to_owned(),
        network: Ipv6Addr::from_bits(network).into(),
        length: u32::from_str_radix(word(1)?, 16)
            .ok()
            .filter(|l| *l <= 128)?,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proc(four: &str, six: &str) -> (tempfile::TempDir, Proc) {
        let dir = tempfile::tempdir().unwrap();
        let net = dir.path().join("self/net");
        std::fs::create_dir_all(&net).unwrap();
        std::fs::write(net.join("route"), format!("Iface Destination\n{four}")).unwrap();
        std::fs::write(net.join("ipv6_route"), six).unwrap();
        let proc = Proc::open(Some(dir.path())).unwrap();
        (dir, proc)
    }

    const FOUR: &str = "eth0 00000000 0202000A 0003 0 0 100 00000000 0 0 0\n\
                        eth1 0002000A 00000000 0001 0 0 0 00FFFFFF 0 0 0\n\
                        eth2 00000000 0202000A 0002 0 0 0 00000000 0 0 0\n";
    const SIX: &str = "\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        fe800000000000000000000000000001 00000400 1 0 00000003 wlan0\n\
        00000000000000000000000000000000 00 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 ffffffff 1 0 00200200 lo\n\
        20010db8000000000000000000000000 20 00000000000000000000000000000000 00 \
        00000000000000000000000000000000 00000100 1 0 00000001 eth3\n";

    #[test]
    fn default_routes_that_are_up() {
        let (_dir, proc) = proc(FOUR, SIX);
        let interfaces = proc.default_route_interfaces().unwrap();
        assert_eq!(interfaces, ["eth0", "wlan0"].map(str::to_owned).into());
    }

    #[test]
    fn the_longest_prefix_decides() {
        let (_dir, proc) = proc(FOUR, SIX);
        let towards = |a: &str| proc.interface_towards(a.parse().unwrap()).unwrap();
        assert_eq!(towards("10.0.2.2").as_deref(), Some("eth1"));
        assert_eq!(towards("192.0.2.1").as_deref(), Some("eth0"));
        assert_eq!(towards("2001:db8::1").as_deref(), Some("eth3"));
        assert_eq!(towards("2001:db9::1").as_deref(), Some("wlan0"));
    }

    #[test]
    fn nonsense_is_no_route() {
        let (_dir, proc) = proc("x\ny z\neth0 zz 0 0003\n", "\nab\n");
        assert!(proc.default_route_interfaces().unwrap().is_empty());
    }
}

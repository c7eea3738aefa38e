//! Network interfaces and their addresses: which one is meant, and which address others are told.
//!
//! The rules (agent.md 5.1, 5.2) are functions of a list of addresses; [`all`] reads that list from the system.

use crate::address::Bind;
use nix::ifaddrs::getifaddrs;
use nix::net::if_::{InterfaceFlags, if_nametoindex};
use nix::sys::socket::SockaddrStorage;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// One address of one interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InterfaceAddr {
    /// Of the interface.
    pub name: String,
    /// Whether the interface is up.
    pub up: bool,
    /// The address.
    pub ip: IpAddr,
    /// Length of the network's prefix, in bits.
    pub prefix: u32,
}

/// An interface chosen by the operator.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interface {
    /// Its name.
    pub name: String,
    /// The system's number for it.
    pub index: u32,
    /// In the order of the system.
    pub addrs: Vec<IpAddr>,
}

/// All addresses of all interfaces, in the order of the system.
pub fn all() -> Vec<InterfaceAddr> {
    let ip_of = |storage: &SockaddrStorage| {
        let v4 = storage.as_sockaddr_in().map(|addr| IpAddr::V4(addr.ip()));
        v4.or_else(|| storage.as_sockaddr_in6().map(|addr| IpAddr::V6(addr.ip())))
    };
    let Ok(list) = getifaddrs() else { return Vec::new() };
    list.filter_map(|entry| {
        let ip = ip_of(entry.address.as_ref()?)?;
        let prefix = match entry.netmask.as_ref().and_then(ip_of) {
            Some(IpAddr::V4(mask)) => mask.to_bits().leading_ones(),
            Some(IpAddr::V6(mask)) => mask.to_bits().leading_ones(),
            None => 0,
        };
        let up = entry.flags.contains(InterfaceFlags::IFF_UP);
        Some(InterfaceAddr { name: entry.interface_name, up, ip, prefix })
    })
    .collect()
}

impl Interface {
    /// The interface of this name; `Err` is the reason, to be put behind `Invalid network interface: ` (agent.md 4.3).
    pub fn named(name: &str) -> Result<Interface, String> {
        let index = if_nametoindex(name).map_err(|_| format!("{name}: no such network interface"))?;
        let addrs = all().into_iter().filter(|addr| addr.name == name).map(|addr| addr.ip).collect();
        Ok(Interface { name: name.to_owned(), index, addrs })
    }

    /// What it is now: of this name, or else whatever has an address of it that no other network has. `None` while it
    /// is gone.
    pub fn now(&self) -> Option<Interface> {
        let all = all();
        let has_its_address =
            |addr: &&InterfaceAddr| !is_link_local(addr.ip) && self.addrs.contains(&addr.ip);
        let by_name = all.iter().find(|addr| addr.name == self.name);
        let found = by_name.or_else(|| all.iter().find(has_its_address))?;
        Interface::named(&found.name).ok().filter(|interface| !interface.addrs.is_empty())
    }

    /// What to bind to when the operator names this interface and `bind`: its first usable address if the
    /// bind address is open, otherwise exactly the bind address, which it must have. `Err` is the whole
    /// message. The flag says whether an address was chosen here, which is worth a line.
    pub fn narrow(&self, bind: Bind) -> Result<(Bind, bool), String> {
        let name = &self.name;
        if self.addrs.is_empty() {
            return Err(format!("Interface '{name}' has no addresses"));
        }
        if !bind.ip.is_unspecified() {
            let has_it = self.addrs.contains(&bind.ip);
            return if has_it {
                Ok((bind, false))
            } else {
                Err(format!("Interface '{name}' has no '{}' address", bind.ip))
            };
        }
        match self.addrs.iter().find(|ip| !is_link_local(**ip)) {
            Some(&ip) => Ok((Bind { ip, host_is_empty: false, ..bind }, true)),
            None => Err(format!("Failed to find usable address for interface '{name}'")),
        }
    }
}

/// The address that others are told when this machine listens on all of them: a private one, preferring the
/// interface of the default route, then IPv4, then the smaller network. IPv6 only if `ipv6` is heard.
pub fn private_address(addrs: &[InterfaceAddr], default_route: Option<&str>, ipv6: bool) -> Option<IpAddr> {
    let usable = addrs.iter().filter(|addr| addr.up && is_private(addr.ip) && (ipv6 || addr.ip.is_ipv4()));
    let rank = |addr: &&InterfaceAddr| {
        (Some(addr.name.as_str()) != default_route, addr.ip.is_ipv6(), 128 - addr.prefix)
    };
    usable.min_by_key(rank).map(|addr| addr.ip)
}

/// The interface of the default route of this machine.
pub fn default_route() -> Option<String> {
    let table = fs::read_to_string("/proc/net/route").ok()?;
    default_route_of(&table)
}

/// Of the kernel's table: interface, destination, gateway, flags, two counters, metric, mask.
fn default_route_of(table: &str) -> Option<String> {
    let routes = table.lines().skip(1).filter_map(|line| {
        let fields: Vec<&str> = line.split_whitespace().collect();
        let (name, destination, metric, mask) =
            (fields.first()?, fields.get(1)?, fields.get(6)?, fields.get(7)?);
        let is_default = *destination == "00000000" && *mask == "00000000";
        is_default.then_some((metric.parse::<u32>().ok()?, *name))
    });
    routes.min_by_key(|route| route.0).map(|(_, name)| name.to_owned())
}

/// Of a special-purpose range that is forwarded between networks (agent.md 5.1).
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => {
            let within = |net: [u8; 4], bits: u32| {
                let shift = 32 - bits;
                v4.to_bits() >> shift == Ipv4Addr::from(net).to_bits() >> shift
            };
            v4.is_private() || within([100, 64, 0, 0], 10) || within([198, 18, 0, 0], 15)
        }
        IpAddr::V6(v6) => v6.is_unique_local(),
    }
}

fn is_link_local(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(v4) => v4.is_link_local(),
        IpAddr::V6(v6) => Ipv6Addr::is_unicast_link_local(&v6),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn addr(name: &str, ip: &str, prefix: u32) -> InterfaceAddr {
        InterfaceAddr { name: name.to_owned(), up: true, ip: ip.parse().expect("an address"), prefix }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().expect("an address")
    }

    #[test]
    fn the_address_for_others() {
        let lo = addr("lo", "127.0.0.1", 8);
        let public = addr("eth0", "192.0.2.1", 24);
        let local = addr("eth0", "169.254.3.3", 16);
        let (ten, small) = (addr("eth1", "10.1.2.3", 8), addr("eth2", "172.16.0.9", 24));
        let (carrier, bench) = (addr("eth3", "100.127.0.1", 10), addr("eth4", "198.19.0.1", 15));
        let unique = addr("eth5", "fd00::5", 64);
        let down = InterfaceAddr { up: false, ..addr("eth6", "192.168.1.1", 30) };
        let cases = [
            (vec![], None, true, None),
            (vec![&lo, &public, &local, &down], None, true, None),
            (vec![&lo, &public, &ten], Some("eth0"), false, Some("10.1.2.3")),
            (vec![&ten, &small], None, false, Some("172.16.0.9")),
            (vec![&ten, &small], Some("eth1"), false, Some("10.1.2.3")),
            (vec![&bench, &carrier], None, false, Some("198.19.0.1")),
            (vec![&unique, &ten], None, true, Some("10.1.2.3")),
            (vec![&unique, &ten], Some("eth5"), true, Some("fd00::5")),
            (vec![&unique, &lo], None, false, None),
        ];
        for (addrs, route, ipv6, expected) in cases {
            let addrs: Vec<InterfaceAddr> = addrs.into_iter().cloned().collect();
            assert_eq!(private_address(&addrs, route, ipv6), expected.map(ip), "{addrs:?} {route:?}");
        }
    }

    #[test]
    fn the_default_route() {
        let head = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n";
        let net = "dum0\t00014D0A\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n";
        let slow = "wlan0\t00000000\t0101A8C0\t0003\t0\t0\t600\t00000000\t0\t0\t0\n";
        let fast = "eth0\t00000000\t0101A8C0\t0003\t0\t0\t100\t00000000\t0\t0\t0\n";
        let cases = [
            (head.to_owned(), None),
            ([head, net].concat(), None),
            ([head, net, slow].concat(), Some("wlan0")),
            ([head, slow, fast].concat(), Some("eth0")),
        ];
        for (table, expected) in cases {
            assert_eq!(default_route_of(&table).as_deref(), expected);
        }
    }

    #[test]
    fn an_interface_narrows_the_bind_address() {
        let interface = |addrs: &[&str]| Interface {
            name: "x0".to_owned(),
            index: 2,
            addrs: addrs.iter().map(|text| ip(text)).collect(),
        };
        let narrow = |addrs: &[&str], bind: &str| {
            let bind = Bind::parse(bind).expect("a bind address");
            interface(addrs).narrow(bind).map(|(bind, chosen)| (bind.shown(bind.port), chosen))
        };
        assert_eq!(narrow(&["10.0.0.1"], ""), Ok(("10.0.0.1:7946".to_owned(), true)));
        assert_eq!(narrow(&["fe80::1", "10.0.0.1"], ":7000"), Ok(("10.0.0.1:7000".to_owned(), true)));
        assert_eq!(narrow(&["10.0.0.1"], "10.0.0.1:1"), Ok(("10.0.0.1:1".to_owned(), false)));
        assert_eq!(
            narrow(&["10.0.0.1"], "10.0.0.2"),
            Err("Interface 'x0' has no '10.0.0.2' address".to_owned())
        );
        assert_eq!(narrow(&[], ""), Err("Interface 'x0' has no addresses".to_owned()));
        let unusable = Err("Failed to find usable address for interface 'x0'".to_owned());
        assert_eq!(narrow(&["fe80::1", "169.254.0.1"], ""), unusable);
    }

    #[test]
    fn the_loopback_interface_is_there() {
        let lo = Interface::named("lo").expect("every machine has it");
        assert!(lo.addrs.contains(&ip("127.0.0.1")));
        assert!(all().iter().any(|addr| addr.name == "lo" && addr.prefix == 8));
        let expected = "nosuch0: no such network interface";
        assert_eq!(Interface::named("nosuch0"), Err(expected.to_owned()));
    }
}

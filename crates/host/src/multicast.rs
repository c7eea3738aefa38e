//! The sockets of multicast discovery (gossip.md 16).
//!
//! Per family of addresses one socket on the port of multicast DNS, member of the group, shared with
//! other programs of the machine, and one on a free port, whose questions leave through the chosen
//! interface. A family that the machine or the interface does not have is left out.
//!
//! An interface may go and come back as another one with the same name or the same address, as that of a container
//! does which is connected anew; [`Membership`] follows it.

use crate::interface::Interface;
use socket2::{Domain, InterfaceIndexOrAddress, Protocol, SockAddr, SockRef, Socket as Raw, Type};
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use villein_agent::config::Family;
use villein_core::mdns::{GROUP_V4, GROUP_V6, Via};

/// The two sockets of one family.
#[derive(Debug)]
pub struct Pair {
    /// Their family.
    pub family: Family,
    /// Each with its role.
    pub sockets: [(Via, UdpSocket); 2],
    /// What keeps them where they belong.
    pub membership: Membership,
}

/// Where the sockets of one family hear the group and ask it.
#[derive(Debug)]
pub struct Membership {
    family: Family,
    /// As it was when they were put there; `None` is the system's default.
    interface: Option<Interface>,
    group: UdpSocket,
    query: UdpSocket,
}

impl Membership {
    fn new(
        family: Family,
        interface: Option<&Interface>,
        group: &Raw,
        query: &Raw,
    ) -> io::Result<Membership> {
        let (group, query) = (group.try_clone()?.into(), query.try_clone()?.into());
        let membership = Membership { family, interface: interface.cloned(), group, query };
        membership.enter(interface)?;
        Ok(membership)
    }

    /// Whether its sockets take a datagram to there.
    pub fn is_for(&self, to: SocketAddr) -> bool {
        to.is_ipv4() == (self.family == Family::V4)
    }

    /// Follows an interface that has become another one. Without success nothing changes, and the next question
    /// tries again.
    pub fn renew(&mut self) {
        let Some(before) = &self.interface else { return };
        let Some(now) = before.now().filter(|now| now != before) else { return };
        let _ = match self.family {
            Family::V4 => SockRef::from(&self.group)
                .leave_multicast_v4_n(&group_v4(), &InterfaceIndexOrAddress::Index(before.index)),
            Family::V6 => SockRef::from(&self.group).leave_multicast_v6(&group_v6(), before.index),
        };
        if self.enter(Some(&now)).is_ok() {
            self.interface = Some(now);
        }
    }

    /// Joins last: whoever has joined cannot join again, and what fails is tried again.
    fn enter(&self, interface: Option<&Interface>) -> io::Result<()> {
        let index = interface.map_or(0, |interface| interface.index);
        let (group, query) = (SockRef::from(&self.group), SockRef::from(&self.query));
        match self.family {
            Family::V4 => {
                let own = interface.map(own_v4).transpose()?;
                for socket in [&group, &query] {
                    if let Some(own) = own {
                        socket.set_multicast_if_v4(&own)?;
                    }
                }
                group.join_multicast_v4_n(&group_v4(), &InterfaceIndexOrAddress::Index(index))?;
            }
            Family::V6 => {
                for socket in [&group, &query] {
                    socket.set_multicast_if_v6(index)?;
                }
                group.join_multicast_v6(&group_v6(), index)?;
            }
        }
        Ok(())
    }
}

fn group_v4() -> Ipv4Addr {
    let IpAddr::V4(group) = GROUP_V4.ip() else { unreachable!("the group of IPv4 has such an address") };
    group
}

fn group_v6() -> Ipv6Addr {
    let IpAddr::V6(group) = GROUP_V6.ip() else { unreachable!("the group of IPv6 has such an address") };
    group
}

fn own_v4(interface: &Interface) -> io::Result<Ipv4Addr> {
    let address = interface.addrs.iter().find_map(|ip| match ip {
        IpAddr::V4(v4) => Some(*v4),
        IpAddr::V6(_) => None,
    });
    address.ok_or_else(|| io::ErrorKind::AddrNotAvailable.into())
}

/// Opens what can be opened of these families, on this interface or on the system's default; `Err` is the whole
/// message.
pub fn open(interface: Option<&Interface>, families: &[Family]) -> Result<Vec<Pair>, String> {
    let open = |family: &Family| match family {
        Family::V4 => ipv4(interface),
        Family::V6 => ipv6(interface),
    };
    let pairs: Vec<Pair> = families.iter().flat_map(open).collect();
    if pairs.is_empty() {
        return Err("Error starting mDNS listener: No multicast listeners could be started".to_owned());
    }
    Ok(pairs)
}

fn ipv4(interface: Option<&Interface>) -> io::Result<Pair> {
    let any = SocketAddr::from((Ipv4Addr::UNSPECIFIED, 0));
    let group = shared(Domain::IPV4, SocketAddr::new(any.ip(), GROUP_V4.port()))?;
    let query = fresh(Domain::IPV4, any)?;
    for socket in [&group, &query] {
        socket.set_multicast_loop_v4(true)?;
    }
    pair(Family::V4, interface, group, query)
}

fn ipv6(interface: Option<&Interface>) -> io::Result<Pair> {
    if interface.is_some_and(|interface| !interface.addrs.iter().any(IpAddr::is_ipv6)) {
        return Err(io::ErrorKind::AddrNotAvailable.into());
    }
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, 0));
    let group = shared(Domain::IPV6, SocketAddr::new(any.ip(), GROUP_V6.port()))?;
    let query = fresh(Domain::IPV6, any)?;
    for socket in [&group, &query] {
        socket.set_multicast_loop_v6(true)?;
    }
    pair(Family::V6, interface, group, query)
}

fn pair(family: Family, interface: Option<&Interface>, group: Raw, query: Raw) -> io::Result<Pair> {
    let membership = Membership::new(family, interface, &group, &query)?;
    Ok(Pair { family, sockets: [(Via::Group, group.into()), (Via::Query, query.into())], membership })
}

/// Bound to a port that other programs have too.
fn shared(domain: Domain, addr: SocketAddr) -> io::Result<Raw> {
    let socket = Raw::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    bind(socket, addr)
}

fn fresh(domain: Domain, addr: SocketAddr) -> io::Result<Raw> {
    bind(Raw::new(domain, Type::DGRAM, Some(Protocol::UDP))?, addr)
}

fn bind(socket: Raw, addr: SocketAddr) -> io::Result<Raw> {
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&SockAddr::from(addr))?;
    Ok(socket)
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOTH: [Family; 2] = [Family::V4, Family::V6];

    /// Families that this machine has on its loopback interface.
    fn families(interface: &Interface) -> Vec<Family> {
        let pairs = open(Some(interface), &BOTH).expect("the loopback interface has IPv4");
        pairs.iter().map(|pair| pair.family).collect()
    }

    #[test]
    fn two_agents_share_the_port() {
        let lo = Interface::named("lo").expect("every machine has it");
        let first = open(Some(&lo), &BOTH).expect("the loopback interface has IPv4");
        assert_eq!(first[0].family, Family::V4);
        let second = open(Some(&lo), &BOTH).expect("the port is shared");
        let port = |pairs: &[Pair], at: usize| pairs[0].sockets[at].1.local_addr().expect("bound").port();
        assert_eq!((port(&first, 0), port(&second, 0)), (5353, 5353));
        assert_ne!(port(&first, 1), port(&second, 1));
        let only = open(Some(&lo), &[Family::V4]).expect("the port is shared");
        assert_eq!(only.iter().map(|pair| pair.family).collect::<Vec<_>>(), [Family::V4]);
        assert!(open(Some(&lo), &[]).is_err());
    }

    /// As when an interface loses its address between two questions.
    #[test]
    fn an_attempt_without_success_is_not_in_the_way_of_the_next() {
        let lo = Interface::named("lo").expect("every machine has it");
        let nobodys = Interface { addrs: vec![IpAddr::from([192, 0, 2, 1])], ..lo.clone() };
        let pairs = open(Some(&lo), &[Family::V4]).expect("the loopback interface has IPv4");
        let membership = &pairs[0].membership;
        SockRef::from(&membership.group)
            .leave_multicast_v4_n(&group_v4(), &InterfaceIndexOrAddress::Index(lo.index))
            .expect("it is a member");
        membership.enter(Some(&nobodys)).expect_err("nobody has that address");
        membership.enter(Some(&lo)).expect("the interface has its address again");
    }

    #[test]
    fn a_family_that_the_interface_lacks_is_left_out() {
        let lo = Interface::named("lo").expect("every machine has it");
        let only_v4 = Interface { addrs: vec![IpAddr::from([127, 0, 0, 1])], ..lo.clone() };
        assert_eq!(families(&only_v4), [Family::V4]);
        let nothing = Interface { addrs: Vec::new(), ..lo };
        let expected = "Error starting mDNS listener: No multicast listeners could be started";
        assert_eq!(open(Some(&nothing), &BOTH).map(|pairs| pairs.len()), Err(expected.to_owned()));
    }
}

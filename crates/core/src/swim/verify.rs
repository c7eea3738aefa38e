//! Whom this node can live with: version vectors and addresses of others (gossip.md 3.6, 3.7).
//!
//! One member whose vector is missing or odd makes every push/pull of the cluster fail, and so such a node is
//! not admitted in the first place. It is not enough that a vector agrees with ours: two that do can disagree
//! with each other. The invariant: every entry of the table has an address of 4 or 16 bytes and a vector
//! around the versions that all members speak, so that any two of them agree.

use super::table::Table;
use crate::exchange_error::ExchangeError;
use crate::limits;
use crate::member::{Versions, WireAddr};
use crate::swim::rules::State;
use crate::text::Text;
use crate::wire::message::{Alive, PushNode};
use std::ops::RangeInclusive;

/// The memberlist protocol that every Serf speaks (gossip.md 3.6).
const CURRENT: u8 = 2;

/// The Serf protocols that a member may speak (gossip.md 3.6).
const SERF: RangeInclusive<u8> = 2..=5;

/// Address and vector of a node that can be a member, or why it cannot.
pub(super) fn admit(alive: &Alive<'_>) -> Result<(WireAddr, Versions), &'static str> {
    if alive.node.is_empty() {
        return Err("it has no name");
    }
    if alive.node.len() > limits::NAME {
        return Err("its name is too long");
    }
    if alive.meta.len() > limits::META {
        return Err("its metadata is too long");
    }
    let addr = WireAddr::from_bytes(alive.addr).ok_or("its address is neither 4 nor 16 bytes long")?;
    let bytes: [u8; 6] = alive.vsn.try_into().map_err(|_| "its version vector is not 6 bytes long")?;
    let [min, max, current, serf_min, serf_max, serf] = bytes;
    if min == 0 || max == 0 || min > max {
        return Err("its protocol range is empty");
    }
    let speaks = current == CURRENT && SERF.contains(&serf);
    let understands = (min..=max).contains(&CURRENT) && serf_min <= *SERF.start() && serf_max >= *SERF.end();
    if !(speaks && understands) {
        return Err("its protocol versions are not those of all members");
    }
    Ok((addr, Versions(bytes)))
}

/// Checks that all members of both sides can understand each other, before a push/pull is merged.
pub(super) fn verify(remote: &[PushNode<'_>], local: &Table) -> Result<(), ExchangeError> {
    let mut range = [0, u8::MAX, 0, u8::MAX];
    let mut narrow = |vsn: &[u8]| {
        range[0] = range[0].max(vsn[0]);
        range[1] = range[1].min(vsn[1]);
        range[2] = range[2].max(vsn[3]);
        range[3] = range[3].min(vsn[4]);
    };
    remote.iter().filter(|node| node.state == 0 && node.vsn.len() >= 5).for_each(|node| narrow(node.vsn));
    local
        .iter()
        .filter(|(_, entry)| entry.state == State::Alive)
        .for_each(|(_, entry)| narrow(&entry.versions.0));
    let check = |name: &[u8], [current, serf]: [u8; 2]| {
        let [min, max, serf_min, serf_max] = range;
        let why = if !(min..=max).contains(&current) {
            format!("protocol version ({current}) is incompatible: [{min}, {max}]")
        } else if !(serf_min..=serf_max).contains(&serf) {
            format!("delegate protocol version ({serf}) is incompatible: [{serf_min}, {serf_max}]")
        } else {
            return Ok(());
        };
        Err(ExchangeError::Versions { node: Text::from(name).to_string(), why })
    };
    for node in remote {
        check(node.name, node.vsn.get(..6).map_or([0, 0], |vsn| [vsn[2], vsn[5]]))?;
    }
    for (_, entry) in local.iter() {
        check(&entry.name, [entry.versions.0[2], entry.versions.0[5]])?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;
    use crate::swim::table::Entry;
    use crate::time::Instant;

    const GOOD: [u8; 6] = [1, 5, 2, 2, 5, 5];

    fn alive<'a>(addr: &'a [u8], vsn: &'a [u8]) -> Alive<'a> {
        Alive { incarnation: 1, node: b"n", addr, port: 1, meta: &[], vsn }
    }

    #[test]
    fn odd_nodes_are_not_admitted() {
        let v4: &[u8] = &[127, 0, 0, 1];
        assert!(admit(&alive(v4, &GOOD)).is_ok());
        assert!(admit(&alive(&[0; 16], &[1, 5, 2, 2, 5, 2])).is_ok());
        for addr in [&[][..], &[1, 2, 3], &[0; 5], &[0; 15], &[0; 17]] {
            assert!(admit(&alive(addr, &GOOD)).is_err(), "{addr:?}");
        }
        for vsn in [
            &[][..],
            &[1],
            &[1, 5, 2],
            &[1, 5, 2, 2, 5],
            &[1, 5, 2, 2, 5, 5, 0],
            &[0, 5, 2, 2, 5, 5],
            &[1, 0, 2, 2, 5, 5],
            &[3, 2, 2, 2, 5, 5],
            &[3, 5, 3, 2, 5, 5],
            &[1, 1, 1, 2, 5, 5],
            &[1, 5, 6, 2, 5, 5],
            &[1, 5, 2, 2, 4, 4],
            &[1, 5, 2, 2, 6, 6],
            &[1, 5, 3, 2, 5, 5],
            &[2, 2, 1, 2, 5, 5],
            &[3, 5, 2, 2, 5, 5],
            &[1, 5, 2, 3, 5, 5],
            &[1, 5, 2, 2, 5, 1],
            &[1, 5, 2, 2, 9, 6],
        ] {
            assert!(admit(&alive(v4, vsn)).is_err(), "{vsn:?}");
        }
        assert!(admit(&Alive { meta: &[0; 513], ..alive(v4, &GOOD) }).is_err());
        assert!(admit(&Alive { node: b"", ..alive(v4, &GOOD) }).is_err());
        assert!(admit(&Alive { node: &[b'n'; 513], ..alive(v4, &GOOD) }).is_err());
    }

    fn table() -> Table {
        let mut table = Table::default();
        let entry = Entry {
            name: "me".into(),
            addr: WireAddr::from_bytes(&[127, 0, 0, 1]).unwrap(),
            port: 1,
            meta: Box::default(),
            versions: Versions::ours(5),
            incarnation: 1,
            state: State::Alive,
            changed: Instant::ORIGIN,
            reminded: Instant::ORIGIN,
            suspicion: None,
        };
        table.insert(entry, &mut Rng::new([0; 32]));
        table
    }

    fn remote(state: i64, vsn: &[u8]) -> PushNode<'_> {
        PushNode { incarnation: 1, name: b"peer", addr: &[127, 0, 0, 2], port: 1, meta: &[], state, vsn }
    }

    /// Two that agree with us need not agree with each other; all that are admitted do.
    #[test]
    fn whoever_is_admitted_agrees_with_all_others() {
        let mut admitted = Vec::new();
        for memberlist in
            [[0, 0, 0], [1, 2, 2], [1, 5, 2], [1, 6, 2], [2, 2, 2], [1, 255, 2], [1, 5, 3], [3, 5, 3]]
        {
            for serf in
                [[2, 5, 5], [2, 5, 4], [2, 5, 2], [2, 6, 5], [1, 5, 5], [2, 4, 4], [3, 5, 5], [2, 6, 6]]
            {
                let vsn: Vec<u8> = [memberlist, serf].concat();
                if admit(&alive(&[127, 0, 0, 1], &vsn)).is_ok() {
                    admitted.push(vsn);
                }
            }
        }
        assert!(admitted.contains(&vec![1, 6, 2, 2, 5, 5]) && admitted.contains(&vec![1, 255, 2, 2, 5, 5]));
        assert_eq!(admitted.len(), 5 * 5);
        let nodes: Vec<_> = admitted.iter().map(|vsn| remote(0, vsn)).collect();
        assert_eq!(verify(&nodes, &table()), Ok(()));
    }

    #[test]
    fn one_odd_vector_fails_the_exchange() {
        let table = table();
        assert_eq!(verify(&[], &table), Ok(()));
        assert_eq!(verify(&[remote(0, &GOOD), remote(2, &GOOD)], &table), Ok(()));
        let why = |vsn: &[u8], state| match verify(&[remote(state, vsn)], &table) {
            Err(ExchangeError::Versions { why, .. }) => why,
            other => panic!("{other:?}"),
        };
        assert_eq!(why(&[], 0), "protocol version (0) is incompatible: [1, 5]");
        assert_eq!(why(&[], 3), "protocol version (0) is incompatible: [1, 5]");
        assert_eq!(why(&[1, 5, 2], 0), "protocol version (0) is incompatible: [1, 5]");
        assert_eq!(why(&[3, 5, 3, 2, 5, 5], 0), "protocol version (2) is incompatible: [3, 5]");
        assert_eq!(why(&[1, 5, 2, 2, 5, 6], 2), "delegate protocol version (6) is incompatible: [2, 5]");
        assert_eq!(why(&[1, 5, 2, 2, 4, 4], 0), "delegate protocol version (5) is incompatible: [2, 4]");
    }
}

use super::*;
use crate::limits::MDNS_HOSTS;
use proptest::prelude::*;
use simple_dns::rdata::RData;
use simple_dns::{CLASS, Label, Name, Packet, QTYPE, Question, TYPE};

const SEED: [u8; 32] = [9; 32];
const ASKER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(10, 99, 0, 9)), 40000);

/// The node that the golden answer was taken from.
fn config() -> Config {
    Config {
        discovery: Text::from("prod"),
        node: Text::from("node-a"),
        host: Text::from("vm"),
        addr: IpAddr::from([10, 99, 0, 1]),
        port: 7946,
        ipv4: true,
        ipv6: true,
    }
}

fn node(discovery: &str, node: &str, last_byte: u8) -> Config {
    let addr = IpAddr::from([10, 99, 0, last_byte]);
    Config { discovery: Text::from(discovery), node: Text::from(node), addr, ..config() }
}

fn golden(hex: &str) -> Vec<u8> {
    let digits: Vec<u8> = hex.bytes().filter(u8::is_ascii_hexdigit).collect();
    let pair = |pair: &[u8]| std::str::from_utf8(pair).expect("ASCII").to_owned();
    digits.chunks(2).map(|two| u8::from_str_radix(&pair(two), 16).expect("hexadecimal")).collect()
}

fn golden_query() -> Vec<u8> {
    golden(include_str!("../../tests/golden/mdns-query.hex"))
}

fn golden_answer() -> Vec<u8> {
    golden(include_str!("../../tests/golden/mdns-answer.hex"))
}

fn at(ms: u64) -> Instant {
    Instant::from_nanos(ms * 1_000_000)
}

/// A machine whose first poll is done, so that its window is open until 1 s.
fn polled(config: &Config) -> Mdns {
    let mut mdns = Mdns::new(config, SEED, at(0));
    mdns.handle(at(0), Input::Tick, &mut Vec::new());
    mdns
}

fn receive(mdns: &mut Mdns, now: Instant, via: Via, bytes: &[u8]) -> Vec<Action> {
    let mut out = Vec::new();
    mdns.handle(now, Input::Packet { via, from: ASKER, bytes }, &mut out);
    out
}

fn tick(mdns: &mut Mdns, now: Instant) -> Vec<Action> {
    let mut out = Vec::new();
    mdns.handle(now, Input::Tick, &mut out);
    out
}

/// What the machine answers to one question about `name` on the group socket.
fn ask(mdns: &mut Mdns, name: &str, qtype: QTYPE) -> Vec<Action> {
    let mut packet = Packet::new_query(77);
    let name = Name::new(name).expect("a name");
    packet.questions.push(Question::new(name, qtype, CLASS::IN.into(), false));
    receive(mdns, at(1), Via::Group, &packet.build_bytes_vec().expect("written"))
}

fn answer_of(config: &Config) -> Vec<u8> {
    let mut mdns = polled(config);
    let question = Service::new(config).question(1);
    match receive(&mut mdns, at(1), Via::Group, &question).pop() {
        Some(Action::Send { bytes, .. }) => bytes,
        other => panic!("no answer but {other:?}"),
    }
}

#[test]
fn the_question_is_that_of_the_reference() {
    let mut mdns = Mdns::new(&config(), SEED, at(5));
    assert_eq!(mdns.deadline(), at(5));
    let out = tick(&mut mdns, at(5));
    let [
        Action::Send { via: Via::Query, to: GROUP_V4, bytes },
        Action::Send { via: Via::Query, to: GROUP_V6, bytes: v6 },
    ] = &out[..]
    else {
        panic!("{out:?}");
    };
    assert_eq!((bytes, &bytes[2..]), (v6, &golden_query()[2..]));
    assert_eq!(mdns.deadline(), at(60_005));
}

#[test]
fn the_answer_is_that_of_the_reference() {
    let out = receive(&mut polled(&config()), at(1), Via::Group, &golden_query());
    assert_eq!(out, [Action::Send { via: Via::Group, to: ASKER, bytes: golden_answer() }]);
}

#[test]
fn a_question_that_prefers_unicast_is_answered_with_its_id() {
    let mut question = golden_query();
    let class = question.len() - 2;
    question[class] |= 0x80;
    let mut answer = golden_answer();
    answer[..2].copy_from_slice(&question[..2]);
    let out = receive(&mut polled(&config()), at(1), Via::Group, &question);
    assert_eq!(out, [Action::Send { via: Via::Group, to: ASKER, bytes: answer }]);
}

#[test]
fn every_question_of_the_table_is_answered() {
    let any = QTYPE::ANY;
    let [ptr, srv, txt, a, aaaa] = [TYPE::PTR, TYPE::SRV, TYPE::TXT, TYPE::A, TYPE::AAAA].map(QTYPE::TYPE);
    let (service, instance) = ("_serf_prod._tcp.local", "node-a._serf_prod._tcp.local");
    let enumeration = "_services._dns-sd._udp.local";
    let all: &[TYPE] = &[TYPE::PTR, TYPE::SRV, TYPE::A, TYPE::TXT];
    let table: &[(&str, QTYPE, &[TYPE])] = &[
        (service, ptr, all),
        (service, any, all),
        (service, srv, &[]),
        (service, a, &[]),
        (instance, ptr, &[]),
        (instance, any, &all[1..]),
        (instance, srv, &[TYPE::SRV, TYPE::A]),
        (instance, txt, &[TYPE::TXT]),
        (instance, a, &[TYPE::A]),
        (instance, aaaa, &[]),
        ("vm", any, &[]),
        ("vm", a, &[TYPE::A]),
        ("vm", aaaa, &[]),
        (enumeration, ptr, &[TYPE::PTR]),
        (enumeration, any, &[TYPE::PTR]),
        (enumeration, srv, &[]),
        ("_serf_PROD._tcp.local", ptr, &[]),
        ("_serf_other._tcp.local", ptr, &[]),
        ("node-b._serf_prod._tcp.local", any, &[]),
    ];
    let mut mdns = polled(&config());
    for (name, qtype, expected) in table {
        let out = ask(&mut mdns, name, *qtype);
        let types = match &out[..] {
            [] => Vec::new(),
            [Action::Send { via: Via::Group, to: ASKER, bytes }] => {
                let packet = Packet::parse(bytes).expect("readable");
                assert!(packet.questions.is_empty() && packet.additional_records.is_empty());
                assert!(packet.answers.iter().all(|record| record.ttl == 120 && !record.cache_flush));
                packet.answers.iter().map(|record| record.rdata.type_code()).collect()
            }
            _ => panic!("{out:?}"),
        };
        assert_eq!(types, *expected, "{name} {qtype:?}");
    }
}

#[test]
fn the_service_is_enumerated_as_by_the_reference() {
    let out = ask(&mut polled(&config()), "_services._dns-sd._udp.local", QTYPE::TYPE(TYPE::PTR));
    let expected = golden(
        "000084000000000100000000095f7365727669636573075f646e732d7364045f756470056c6f63616c00000c0001
         0000007800120a5f736572665f70726f64045f746370c023",
    );
    assert_eq!(out, [Action::Send { via: Via::Group, to: ASKER, bytes: expected }]);
}

#[test]
fn dots_separate_labels_as_in_the_reference() {
    let config = Config { addr: IpAddr::from([10, 78, 0, 1]), ..node("x.y", "a.b", 1) };
    let expected = golden(
        "000084000000000400000000075f736572665f780179045f746370056c6f63616c00000c00010000007800060161
         0162c00cc02c0021000100000078000a000a00011f0a02766d00c044000100010000007800040a4e0001c02c0010
         000100000078001312536572662027782e792720636c7573746572",
    );
    assert_eq!(answer_of(&config), expected);
}

#[test]
fn an_ipv6_node_is_announced_and_found() {
    let addr: IpAddr = "2001:db8::7".parse().expect("an address");
    let answer = answer_of(&Config { addr, ..config() });
    let mut mdns = polled(&config());
    assert_eq!(receive(&mut mdns, at(1), Via::Query, &answer), []);
    assert_eq!(tick(&mut mdns, at(101)), [Action::Found(vec![SocketAddr::new(addr, 7946)])]);
    let records = [(QTYPE::TYPE(TYPE::AAAA), 1), (QTYPE::TYPE(TYPE::A), 0)];
    for (qtype, answers) in records {
        assert_eq!(ask(&mut polled(&Config { addr, ..config() }), "vm", qtype).len(), answers);
    }
}

#[test]
fn a_mapped_address_is_announced_as_ipv4() {
    let addr = IpAddr::V6(Ipv4Addr::new(10, 99, 0, 1).to_ipv6_mapped());
    assert_eq!(answer_of(&Config { addr, ..config() }), golden_answer());
}

#[test]
fn each_record_is_sent_once_however_often_it_is_asked_for() {
    let mut packet = Packet::new_query(1);
    for _ in 0..50 {
        let name = Name::new_unchecked("_serf_prod._tcp.local");
        packet.questions.push(Question::new(name, QTYPE::ANY, CLASS::IN.into(), false));
    }
    let bytes = packet.build_bytes_vec_compressed().expect("written");
    let out = receive(&mut polled(&config()), at(1), Via::Group, &bytes);
    assert_eq!(out, [Action::Send { via: Via::Group, to: ASKER, bytes: golden_answer() }]);
}

#[test]
fn errors_and_truncated_or_unusual_messages_are_not_answered() {
    let mut mdns = polled(&config());
    for (byte, bits) in [(2, 0x08), (2, 0x02), (3, 0x01), (2, 0x80)] {
        let mut question = golden_query();
        question[byte] |= bits;
        assert_eq!(receive(&mut mdns, at(1), Via::Group, &question), [], "byte {byte} | {bits:#x}");
    }
    let mut recursive = golden_query();
    recursive[2] |= 0x01;
    assert_eq!(receive(&mut mdns, at(1), Via::Group, &recursive).len(), 1);
    assert_eq!(receive(&mut mdns, at(1), Via::Query, &golden_query()), []);
}

#[test]
fn hosts_are_told_together_after_the_quiet_interval() {
    let mut mdns = polled(&config());
    let (b, c) = (answer_of(&node("prod", "b", 2)), answer_of(&node("prod", "c", 3)));
    assert_eq!(receive(&mut mdns, at(10), Via::Query, &b), []);
    assert_eq!(mdns.deadline(), at(110));
    assert_eq!(receive(&mut mdns, at(90), Via::Group, &c), []);
    assert_eq!(receive(&mut mdns, at(95), Via::Query, &b), []);
    assert_eq!(mdns.deadline(), at(190));
    assert_eq!(tick(&mut mdns, at(189)), []);
    let found = [2, 3].map(|last| SocketAddr::from(([10, 99, 0, last], 7946)));
    assert_eq!(tick(&mut mdns, at(190)), [Action::Found(found.to_vec())]);
    assert_eq!(mdns.deadline(), at(60_000));
}

#[test]
fn the_own_host_other_services_and_late_answers_are_not_found() {
    let mut mdns = polled(&config());
    let answers = [
        (1, answer_of(&config())),
        (1, answer_of(&node("other", "b", 2))),
        (1, answer_of(&node("PROD", "b", 2))),
        (1, answer_of(&Config { port: 0, ..node("prod", "b", 2) })),
        (1, answer_of(&Config { addr: IpAddr::from([0, 0, 0, 0]), ..config() })),
        (1, answer_of(&Config { addr: IpAddr::from([224, 0, 0, 1]), ..config() })),
        (1000, answer_of(&node("prod", "b", 2))),
    ];
    for (ms, answer) in answers {
        receive(&mut mdns, at(ms), Via::Query, &answer);
        assert_eq!(mdns.deadline(), at(60_000), "{}", String::from_utf8_lossy(&answer));
    }
    receive(&mut mdns, at(999), Via::Query, &answer_of(&node("prod", "b", 2)));
    assert_eq!(mdns.deadline(), at(1099));
}

#[test]
fn an_incomplete_answer_is_tolerated() {
    let answer = answer_of(&node("prod", "b", 2));
    for dropped in 0..4 {
        let mut packet = Packet::parse(&answer).expect("readable");
        let record = packet.answers.remove(dropped);
        let is_needed = matches!(record.rdata, RData::SRV(_) | RData::A(_));
        let mut mdns = polled(&config());
        receive(&mut mdns, at(1), Via::Query, &packet.build_bytes_vec_compressed().expect("written"));
        assert_eq!(mdns.deadline() == at(60_000), is_needed, "without {record:?}");
    }
}

#[test]
fn additional_records_count_and_the_last_address_wins() {
    let answer = answer_of(&node("prod", "b", 2));
    let mut packet = Packet::parse(&answer).expect("readable");
    let mut address = packet.answers[2].clone();
    address.rdata = RData::A(Ipv4Addr::new(10, 99, 0, 44).into());
    packet.additional_records.push(address);
    let mut mdns = polled(&config());
    receive(&mut mdns, at(1), Via::Query, &packet.build_bytes_vec_compressed().expect("written"));
    assert_eq!(tick(&mut mdns, at(101)), [Action::Found(vec![SocketAddr::from(([10, 99, 0, 44], 7946))])]);
}

#[test]
fn a_host_is_told_again_with_growing_pauses() {
    let mut mdns = Mdns::new(&config(), SEED, at(0));
    let answer = answer_of(&node("prod", "b", 2));
    let mut told = Vec::new();
    for poll in 0..20 {
        tick(&mut mdns, at(poll * 60_000));
        receive(&mut mdns, at(poll * 60_000 + 3), Via::Query, &answer);
        if matches!(tick(&mut mdns, at(poll * 60_000 + 103))[..], [Action::Found(_)]) {
            told.push(poll);
        }
    }
    assert_eq!(told, [0, 1, 3, 7, 15]);
}

#[test]
fn a_failing_family_is_told_once_and_does_not_stop_the_other() {
    let mut mdns = polled(&config());
    let mut out = Vec::new();
    let failed = Input::Failed { via: Via::Query, to: GROUP_V6, reason: "network is unreachable" };
    mdns.handle(at(1), failed, &mut out);
    mdns.handle(at(2), failed, &mut out);
    let [Action::Note(note)] = &out[..] else { panic!("{out:?}") };
    assert_eq!(
        note.to_string(),
        "Failed to poll for new hosts: cannot send to [ff02::fb]:5353: network is unreachable"
    );
    assert_eq!(tick(&mut mdns, at(60_000)).len(), 2);
    mdns.handle(at(60_001), failed, &mut out);
    mdns.handle(at(60_001), Input::Failed { via: Via::Query, to: GROUP_V4, reason: "x" }, &mut out);
    assert_eq!(out.len(), 2);
}

#[test]
fn only_the_wanted_families_are_asked() {
    for (ipv4, ipv6, groups) in
        [(true, false, &[GROUP_V4][..]), (false, true, &[GROUP_V6]), (false, false, &[])]
    {
        let mut mdns = Mdns::new(&Config { ipv4, ipv6, ..config() }, SEED, at(0));
        let asked: Vec<SocketAddr> = tick(&mut mdns, at(0))
            .into_iter()
            .filter_map(|action| if let Action::Send { to, .. } = action { Some(to) } else { None })
            .collect();
        assert_eq!(asked, groups);
    }
}

#[test]
fn bad_packets_are_counted_and_told_with_the_next_poll() {
    let mut mdns = polled(&config());
    let mut greedy = golden_answer();
    greedy[10..12].copy_from_slice(&[0xff, 0xff]);
    for bytes in [&b"what is this?"[..], &[], &golden_query()[..20], &greedy, &[0; 9001]] {
        assert_eq!(receive(&mut mdns, at(1), Via::Group, bytes), []);
    }
    assert_eq!(tick(&mut mdns, at(60_000))[2..], [Action::Note(Note::BadPackets(5))]);
    assert_eq!(tick(&mut mdns, at(120_000)).len(), 2);
}

#[test]
fn a_flood_of_hosts_is_bounded() {
    let mut mdns = polled(&config());
    for port in 1..=MDNS_HOSTS as u16 + 5 {
        receive(&mut mdns, at(1), Via::Query, &answer_of(&Config { port, ..node("prod", "b", 2) }));
    }
    let out = tick(&mut mdns, at(101));
    assert!(matches!(&out[..], [Action::Found(hosts)] if hosts.len() == MDNS_HOSTS));
    assert_eq!(tick(&mut mdns, at(60_000))[2..], [Action::Note(Note::TooManyHosts(5))]);
}

#[test]
fn machines_find_those_of_their_cluster_and_no_others() {
    let configs = [node("prod", "a", 1), node("prod", "b", 2), node("test", "c", 3), node("test.x", "d", 4)];
    let mut machines: Vec<Mdns> = configs.iter().map(|config| Mdns::new(config, SEED, at(0))).collect();
    let query_port = |i: usize| SocketAddr::from(([10, 99, 0, i as u8 + 1], 40000));
    for asker in 0..machines.len() {
        for question in tick(&mut machines[asker], at(0)) {
            let Action::Send { to: GROUP_V4, bytes, .. } = question else { continue };
            for answerer in 0..machines.len() {
                let mut out = Vec::new();
                let input = Input::Packet { via: Via::Group, from: query_port(asker), bytes: &bytes };
                machines[answerer].handle(at(1), input, &mut out);
                for answer in out {
                    let Action::Send { via: Via::Group, to, bytes } = answer else { panic!("{answer:?}") };
                    assert_eq!(to, query_port(asker));
                    receive(&mut machines[asker], at(2), Via::Query, &bytes);
                }
            }
        }
    }
    let found = |mdns: &mut Mdns| tick(mdns, at(200));
    let host = |last: u8| vec![Action::Found(vec![SocketAddr::from(([10, 99, 0, last], 7946))])];
    let found: Vec<_> = machines.iter_mut().map(found).collect();
    assert_eq!(found, [host(2), host(1), vec![], vec![]]);
}

#[test]
fn an_instance_name_may_hold_anything() {
    let answer = answer_of(&node("prod", "b", 2));
    let mut packet = Packet::parse(&answer).expect("readable");
    let service = packet.answers[0].name.clone();
    let mut odd = vec![Label::new_unchecked(&b"a.b\\ \xff\x00"[..])];
    odd.extend_from_slice(service.get_labels());
    packet.answers[1].name = Name::new_with_labels(&odd);
    let mut mdns = polled(&config());
    receive(&mut mdns, at(1), Via::Query, &packet.build_bytes_vec_compressed().expect("written"));
    assert_eq!(mdns.deadline(), at(101));
    // The bare service name is no instance.
    packet.answers[1].name = service;
    let mut mdns = polled(&config());
    receive(&mut mdns, at(1), Via::Query, &packet.build_bytes_vec_compressed().expect("written"));
    assert_eq!(mdns.deadline(), at(60_000));
}

#[test]
fn names_beyond_the_limits_of_dns_are_cut() {
    let long = "x".repeat(300);
    let dotted = format!("..{}.", "abcdefghi.".repeat(40));
    for (discovery, name) in [(&long, &long), (&dotted, &dotted), (&long, &dotted), (&dotted, &long)] {
        let answer = answer_of(&node(discovery, name, 2));
        let mut mdns = polled(&node(discovery, "me", 1));
        receive(&mut mdns, at(1), Via::Query, &answer);
        assert_eq!(mdns.deadline(), at(101));
    }
    let answer = answer_of(&node("prod", &long, 2));
    let packet = Packet::parse(&answer).expect("readable");
    assert_eq!(packet.answers[1].name.get_labels()[0].len(), 63);
}

fn any_text() -> impl Strategy<Value = Text> {
    let byte = prop_oneof![Just(b'.'), Just(b'\\'), Just(b'x'), any::<u8>()];
    prop::collection::vec(byte, 0..400).prop_map(Text::from)
}

proptest! {
    #[test]
    fn any_names_make_messages_that_are_understood(
        discovery in any_text(), node in any_text(), host in any_text(), port in 1..u16::MAX,
    ) {
        let other = Config { discovery: discovery.clone(), node, host, port, ..config() };
        let mut mdns = polled(&Config { discovery, addr: IpAddr::from([10, 99, 0, 2]), ..config() });
        receive(&mut mdns, at(1), Via::Query, &answer_of(&other));
        let expected = vec![SocketAddr::new(other.addr, port)];
        prop_assert_eq!(tick(&mut mdns, at(101)), [Action::Found(expected)]);
    }

    #[test]
    fn garbage_never_panics(
        bytes in prop::collection::vec(any::<u8>(), 0..300),
        template in 0..3usize,
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..8),
        cut in any::<prop::sample::Index>(),
    ) {
        let mut mdns = polled(&config());
        let mut packet = [bytes, golden_query(), answer_of(&node("prod", "b", 2))][template].clone();
        for (index, byte) in changes {
            if !packet.is_empty() {
                let at = index.index(packet.len());
                packet[at] = byte;
            }
        }
        packet.truncate(cut.index(packet.len() + 1).max(packet.len() / 2));
        for via in [Via::Group, Via::Query] {
            for action in receive(&mut mdns, at(1), via, &packet) {
                let is_answer = matches!(&action, Action::Send { to, bytes, .. }
                    if *to == ASKER && bytes.len() < 2 * golden_answer().len());
                prop_assert!(is_answer, "{:?}", action);
            }
        }
        tick(&mut mdns, at(60_000));
        prop_assert!(mdns.deadline() > at(60_000));
    }
}

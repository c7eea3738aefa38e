use crate::lab::{Lab, golden};
use villein_core::note::Note;
use villein_core::wire::message::{EventSlot, SerfMessage, SerfState};
use villein_core::wire::serf::{encode_push_pull, encode_serf};

fn refusals(lab: &Lab, index: usize) -> Vec<String> {
    let refused = |note: &&Note| matches!(note, Note::SerfMalformed { .. } | Note::StreamRefused { .. });
    lab.notes(index).filter(refused).map(Note::to_string).collect()
}

/// A push/pull without nodes.
fn exchange(state: SerfState<'_>) -> Vec<u8> {
    let (mut user_state, mut bytes) = (Vec::new(), Vec::new());
    encode_serf(&SerfMessage::PushPull(state), &mut user_state);
    encode_push_pull(false, std::iter::empty(), &user_state, &mut bytes);
    bytes
}

#[test]
fn the_states_of_the_reference_are_taken() {
    for (name, times) in [
        ("tcp-pushpull-join-request", [1, 1, 1]),
        ("tcp-pushpull-join-response", [1, 1, 1]),
        ("tcp-pushpull-compressed", [1, 1, 1]),
        ("tcp-master-pushpull-join", [1, 1, 1]),
        ("tcp-pushpull-events", [2, 3, 4]),
        // The leave in it is one later than the last intent.
        ("tcp-pushpull-left", [4, 1, 1]),
    ] {
        let mut lab = Lab::cluster(1);
        lab.inject_stream(0, &golden(name));
        assert_eq!(refusals(&lab, 0), Vec::<String>::new(), "{name}");
        let stats = lab.node(0).stats();
        assert_eq!([stats.member_time, stats.event_time, stats.query_time], times, "{name}");
    }
}

#[test]
fn a_flood_of_events_does_not_keep_others_from_joining() {
    let mut lab = Lab::cluster(1);
    let payload = vec![0; 9000];
    let names: Vec<[u8; 1]> = (0..64).map(|name| [name]).collect();
    for part in 0..16 {
        let slot = |ltime| EventSlot {
            ltime,
            events: names.iter().map(|name| (&name[..], Some(&payload[..]))).collect(),
        };
        let events = (1..=32).map(|time| slot(part * 32 + time)).collect();
        lab.inject_stream(0, &exchange(SerfState { event_ltime: 600, events, ..SerfState::default() }));
    }
    assert_eq!(lab.node(0).stats().event_time, 600);
    lab.clear_records();
    let other = lab.add(crate::lab::config("node1", 1));
    lab.join(other, &[0]);
    assert_eq!(refusals(&lab, other), Vec::<String>::new());
    assert_eq!(lab.node(other).stats().event_time, 600);
}

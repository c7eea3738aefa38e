use crate::lab::Lab;
use proptest::prelude::*;
use villein_core::io::{Action, Input, Outbox, StreamEvent, StreamId};
use villein_core::member::Status;
use villein_core::note::Note;
use villein_core::time::Instant;

#[test]
fn bad_packets_are_counted_and_change_nothing() {
    let mut lab = Lab::cluster(2);
    lab.clear_records();
    let golden = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/golden");
    let mut count = 0;
    for entry in std::fs::read_dir(golden).expect("the golden folder is there") {
        let path = entry.expect("the golden folder can be read").path();
        let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let dropped =
            name.starts_with("neg-") && !name.starts_with("neg-compound-t") && !name.contains("ping-wrong");
        if dropped {
            let hex: String =
                std::fs::read_to_string(&path).expect("a vector is text").split_whitespace().collect();
            let bytes: Vec<u8> = (0..hex.len() / 2)
                .map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).expect("a vector is hexadecimal"))
                .collect();
            let before = lab.notes(0).count();
            lab.inject(0, &bytes);
            assert!(lab.notes(0).count() > before, "{name} is noted");
            count += 1;
        }
    }
    assert!(count >= 8, "only {count} vectors");
    assert_eq!(lab.status(0, "node1"), Status::Alive);
    assert_eq!(lab.statuses(0).len(), 2);
    assert!(lab.notes(0).any(|note| matches!(note, Note::PacketRefused { .. })));
}

proptest! {
    #[test]
    fn no_packet_makes_a_node_panic(packets in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..80), 1..20)) {
        let now = Instant::from_nanos(1);
        let mut node = villein_core::Node::new(crate::lab::config("a", 0), [1; 32], villein_core::snapshot::Restored::default(), now);
        let mut out = Outbox::new();
        let from = crate::lab::addr(5);
        for mut bytes in packets {
            if let Some(kind) = bytes.first_mut() {
                *kind %= 14;
            }
            node.handle(now, Input::Datagram { from, bytes: &bytes }, &mut out);
        }
        prop_assert_eq!(node.members().count(), 1);
    }

    #[test]
    fn no_stream_makes_a_node_panic(chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..60), 1..6), kind in 0u8..14) {
        let now = Instant::from_nanos(1);
        let mut node = villein_core::Node::new(crate::lab::config("a", 0), [1; 32], villein_core::snapshot::Restored::default(), now);
        let mut out = Outbox::new();
        let id = StreamId::accepted(1);
        node.handle(now, Input::Stream { id, event: StreamEvent::Accepted { from: crate::lab::addr(5) } }, &mut out);
        node.handle(now, Input::Stream { id, event: StreamEvent::Data(&[kind]) }, &mut out);
        for chunk in &chunks {
            let over = out.actions().any(|action| matches!(action, Action::Stream { .. }));
            if !over {
                node.handle(now, Input::Stream { id, event: StreamEvent::Data(chunk) }, &mut out);
            }
        }
        prop_assert_eq!(node.members().count(), 1);
    }
}

use crate::lab::{Lab, addr, config};
use villein_core::command::Command;
use villein_core::member::{Event, Status};
use villein_core::note::Note;
use villein_core::time::Duration;

#[test]
fn the_newcomer_with_a_taken_name_yields() {
    let mut lab = Lab::cluster(3);
    lab.clear_records();
    let newcomer = lab.add(config("node1", 7));
    lab.start(newcomer, Command::Join { addrs: vec![addr(0)], ignore_old: true });
    lab.run_for(Duration::from_secs(30));
    let lost = lab.take_events(newcomer).into_iter().find(|event| matches!(event, Event::NameLost { .. }));
    assert!(lost.is_some(), "the newcomer is told that it lost");
    assert!(!lab.take_events(1).iter().any(|event| matches!(event, Event::NameLost { .. })));
    assert!(lab.notes(0).any(|note| matches!(note, Note::NameConflict { .. })), "the joined node refuses it");
    for index in 0..3 {
        assert_eq!(lab.status(index, "node1"), Status::Alive);
        let member = lab.node(index).members().find(|member| member.name.as_bytes() == b"node1");
        assert_eq!(member.map(|member| member.socket_addr()), Some(addr(1)));
    }
}

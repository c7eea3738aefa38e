use crate::lab::{Lab, addr, config, golden, names, user_events};
use villein_core::command::{Command, Reply};
use villein_core::config::Config;
use villein_core::crypto::{Key, Keyring};
use villein_core::member::{MemberEventKind, Status};
use villein_core::note::Note;
use villein_core::time::Duration;

/// How far a node is: without keys, with keys that are not used, sending under them, insisting on them.
const STEPS: usize = 4;

fn key(byte: u8) -> Key {
    Key::from_bytes(&[byte; 32]).expect("keys have 32 bytes")
}

fn at_step(index: usize, step: usize) -> Config {
    Config {
        keyring: (step >= 1).then(|| Keyring::new(key(1), []).expect("there is room for a key")),
        verify_outgoing: step >= 2,
        verify_incoming: step >= 3,
        ..config(&format!("node{index}"), index)
    }
}

fn refused_packets(lab: &Lab, index: usize) -> usize {
    lab.notes(index).filter(|note| matches!(note, Note::PacketRefused { .. })).count()
}

/// Two nodes at these steps, of which the second has joined the first.
fn pair(steps: (usize, usize)) -> (Lab, Reply) {
    let mut lab = Lab::new();
    lab.add(at_step(0, steps.0));
    lab.add(at_step(1, steps.1));
    let reply = lab.command(1, Command::Join { addrs: vec![addr(0)], ignore_old: true });
    lab.run_for(Duration::from_secs(5));
    lab.event(0, "there", b"");
    lab.event(1, "back", b"");
    lab.run_for(Duration::from_mins(2));
    (lab, reply)
}

#[test]
fn neighbouring_steps_understand_each_other() {
    for step in 0..STEPS {
        for steps in [(step, step), (step, (step + 1).min(3)), ((step + 1).min(3), step)] {
            let (mut lab, reply) = pair(steps);
            assert_eq!(reply, Reply::Joined { contacted: 1, failures: vec![] }, "{steps:?}");
            for index in 0..2 {
                assert!(lab.statuses(index).values().all(|status| *status == Status::Alive), "{steps:?}");
                assert_eq!(lab.statuses(index).len(), 2, "{steps:?}");
                assert_eq!(refused_packets(&lab, index), 0, "{steps:?}");
                assert_eq!(user_events(&lab.take_events(index)).len(), 2, "{steps:?}");
            }
        }
    }
}

#[test]
fn a_live_cluster_is_taken_through_all_steps() {
    let mut lab = Lab::new();
    let mut places: Vec<usize> = (0..3).map(|index| lab.add(at_step(index, 0))).collect();
    (1..3).for_each(|index| lab.join(index, &[0]));
    lab.run_for(Duration::from_secs(5));
    for step in 1..STEPS {
        for index in 0..3 {
            lab.kill(places[index]);
            places[index] = lab.add(at_step(index, step));
            lab.join(places[index], &[places[(index + 1) % 3]]);
            lab.run_for(Duration::from_secs(40));
            for place in &places {
                assert_eq!(lab.statuses(*place).len(), 3, "node{index} at {step}");
                assert!(lab.statuses(*place).values().all(|status| *status == Status::Alive));
                assert_eq!(refused_packets(&lab, *place), 0, "node{index} at {step}");
                assert_eq!(names(&lab.take_events(*place), MemberEventKind::Failed), [""; 0]);
            }
        }
    }
    assert!(places.iter().all(|place| lab.node(*place).stats().encrypted));
}

#[test]
fn who_skips_a_step_is_not_understood() {
    for steps in [(0, 2), (0, 3), (1, 3)] {
        let (lab, reply) = pair(steps);
        let got_in = |index: usize| lab.statuses(index).len() > 1 && refused_packets(&lab, index) == 0;
        assert!(!(got_in(0) && got_in(1)), "{steps:?} {reply:?}");
    }
}

#[test]
fn without_the_key_nobody_gets_in() {
    let keyless = Config { keyring: None, ..at_step(1, 3) };
    let foreign =
        Config { keyring: Some(Keyring::new(key(2), []).expect("there is room for a key")), ..at_step(1, 3) };
    for stranger in [keyless, foreign] {
        let mut lab = Lab::new();
        lab.add(at_step(0, 3));
        lab.add(stranger.clone());
        let reply = lab.command(1, Command::Join { addrs: vec![addr(0)], ignore_old: true });
        assert!(matches!(reply, Reply::Joined { contacted: 0, .. }), "{reply:?}");
        assert!(lab.notes(0).any(|note| matches!(note, Note::StreamRefused { .. })));
        lab.run_for(Duration::from_mins(1));
        assert_eq!((lab.statuses(0).len(), lab.statuses(1).len()), (1, 1));

        let before = refused_packets(&lab, 0);
        lab.inject(0, &golden("udp-ping"));
        assert_eq!(refused_packets(&lab, 0), before + 1);

        // A member that came back without it is not heard, and each packet is counted.
        let mut lab = Lab::cluster_with(2, |index, config| *config = at_step(index, 3));
        lab.kill(1);
        let again = lab.add(stranger);
        lab.run_until("it is missed", Duration::from_mins(1), |lab| lab.status(0, "node1") == Status::Failed);
        // Without keys they are no packets that could be read, and with others none that could be opened.
        let unread =
            |note: &&Note| matches!(note, Note::PacketRefused { .. } | Note::MessageMalformed { .. });
        assert!(lab.notes(again).filter(unread).count() > 0);
        assert_eq!(lab.statuses(again).len(), 1);
    }
}

use crate::lab::Lab;
use villein_core::member::Status;
use villein_core::note::Note;
use villein_core::time::Duration;

#[test]
fn who_does_without_neither_tells_nor_learns_and_is_a_member_all_the_same() {
    let mut lab = Lab::cluster_with(3, |index, config| config.coordinates = index != 2);
    lab.run_for(Duration::from_mins(1));
    let known =
        |index: usize| [b"node0", b"node1", b"node2"].map(|name| lab.node(index).coordinate(name).is_some());
    assert_eq!(known(0), [true, true, false]);
    assert_eq!(known(1), [true, true, false]);
    assert_eq!(known(2), [false; 3], "not even where it is itself");
    for index in 0..3 {
        assert!(lab.statuses(index).values().all(|status| *status == Status::Alive));
        assert!(!lab.notes(index).any(|note| matches!(note, Note::CoordinateRefused { .. })));
    }
}

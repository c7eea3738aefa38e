use crate::lab::{Lab, config};
use villein_core::command::{Command, QueryParams};
use villein_core::member::{Status, Tags};
use villein_core::metric::{Metric, Tally};
use villein_core::time::Duration;

fn tally(lab: &Lab, metric: Metric) -> Tally {
    *lab.node(0).metrics().get(metric)
}

fn count(lab: &Lab, metric: Metric) -> u64 {
    tally(lab, metric).count
}

fn counts<const N: usize>(lab: &Lab, metrics: [Metric; N]) -> [u64; N] {
    metrics.map(|metric| count(lab, metric))
}

#[test]
fn packets_and_streams() {
    let mut lab = Lab::cluster(2);
    let (sent, received) = (tally(&lab, Metric::UdpSent), tally(&lab, Metric::UdpReceived));
    assert_eq!(sent.count, lab.sent(0) as u64);
    assert!(received.count > 0 && received.min > 0.0 && received.sum >= received.max);
    assert!(count(&lab, Metric::Gossip) > 0);
    assert_eq!(tally(&lab, Metric::Gossip).sum, 0.0, "no time passes while it handles something");
    // It was joined, and has asked nobody itself yet.
    assert_eq!(counts(&lab, [Metric::TcpAccept, Metric::TcpConnect, Metric::PushPullNode]), [1, 0, 0]);
    let state = tally(&lab, Metric::TcpSent);
    assert!(state.count == 1 && state.last > 100.0, "{state:?}");
    lab.run_for(Duration::from_mins(2));
    assert!(count(&lab, Metric::TcpConnect) > 0);
    let exchange = tally(&lab, Metric::PushPullNode);
    // One way to connect, and one each for the question and the answer.
    assert_eq!((exchange.count, exchange.min), (count(&lab, Metric::TcpConnect), 3.0));
    let probe = tally(&lab, Metric::ProbeNode);
    assert_eq!((probe.min, probe.max), (2.0, 2.0), "a round trip");
    assert_eq!(count(&lab, Metric::CoordinateAdjustment), probe.count);
    assert_eq!(counts(&lab, [Metric::QueueIntent, Metric::QueueEvent, Metric::QueueQuery]), [4; 3]);
}

#[test]
fn members_that_come_and_go() {
    let of_members = [
        Metric::MemberJoin,
        Metric::MemberUpdate,
        Metric::MemberLeft,
        Metric::MemberFailed,
        Metric::MemberLeave,
        Metric::MemberFlap,
    ];
    let of_claims = [Metric::MsgAlive, Metric::MsgSuspect, Metric::MsgDead];
    let mut lab = Lab::cluster(4);
    assert_eq!(counts(&lab, of_members), [4, 0, 0, 0, 0, 0]);
    assert_eq!(counts(&lab, of_claims), [4, 0, 0]);
    let tags = Tags::from([("role".into(), "web".into())]);
    lab.command(1, Command::SetTags(tags));
    lab.command(1, Command::Leave);
    lab.run_for(Duration::from_secs(5));
    assert_eq!(counts(&lab, of_members), [4, 1, 1, 0, 0, 0]);
    assert_eq!(counts(&lab, of_claims), [5, 0, 1]);

    for index in [2, 3] {
        lab.kill(index);
    }
    let failed = |lab: &Lab, name: &str| lab.status(0, name) == Status::Failed;
    lab.run_until("both fail", Duration::from_mins(2), |lab| failed(lab, "node2") && failed(lab, "node3"));
    assert_eq!(counts(&lab, of_members), [4, 1, 1, 2, 0, 0]);
    assert_eq!(counts(&lab, of_claims), [5, 2, 3]);
    assert!(tally(&lab, Metric::ProbeNode).max >= 1000.0, "a probe of nobody takes its whole time");
    let health = tally(&lab, Metric::HealthScore);
    assert_eq!((health.last, health.max > 0.0), (f64::from(lab.node(0).stats().health_score), true));
    assert!(count(&lab, Metric::DegradedProbe) > 0);

    lab.command(0, Command::ForceLeave { name: "node3".into(), prune: false });
    assert_eq!(counts(&lab, of_members), [4, 1, 1, 2, 1, 0]);
    for index in [2, 3] {
        let again = lab.add(config(&format!("node{index}"), index));
        lab.join(again, &[0]);
    }
    lab.run_for(Duration::from_secs(5));
    assert_eq!(counts(&lab, of_members), [6, 1, 1, 2, 1, 1], "who was told to leave does not flap");
}

#[test]
fn events_and_queries() {
    let mut lab = Lab::cluster(3);
    let of_messages = [Metric::Events, Metric::Queries, Metric::QueryAcks, Metric::QueryResponses];
    assert_eq!(counts(&lab, of_messages), [0; 4]);
    let before = lab.take_metrics(0);
    assert!(before.get(Metric::MsgsReceived).count > 0 && before.get(Metric::MsgsSent).count > 0);
    assert_eq!(lab.node(0).metrics().iter().count(), 0);
    lab.event(1, "deploy", b"1.2.3");
    lab.query(0, QueryParams { name: "load".into(), ack: true, ..QueryParams::default() });
    lab.run_for(Duration::from_secs(5));
    // Heard of more often, and counted once.
    assert_eq!(counts(&lab, of_messages), [1, 1, 3, 0]);
    let [received, sent] = [Metric::MsgsReceived, Metric::MsgsSent].map(|metric| tally(&lab, metric));
    assert!(received.count > 5 && sent.count > 2, "{received:?} {sent:?}");
    assert!(received.max < tally(&lab, Metric::UdpReceived).max);
}

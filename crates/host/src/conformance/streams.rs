//! Streams: whatever the pieces in which bytes come, whoever stops first, and however it ends.
//!
//! A piece is taken to have been read when the agent has gone through several turns after it was written. Where
//! that is not so two pieces are read as one, and the check sees less; it never fails for that.

use super::lab::{
    HELLO, Held, OK, PATIENCE, Running, ask, deaf, handshake, listen, patient, read, read_answers,
    read_request, read_to_end, reset, stream_ack, stream_ping, write_until_full,
};
use super::{Check, Run};
use crate::limits;
use std::io::{Read, Write};
use std::iter;
use std::net::{Shutdown, TcpListener, TcpStream};
use std::thread;
use std::time::Instant;
use villein_agent::config::Config;
use villein_core::rng::Rng;
use villein_core::wire::message::{SerfMessage, StreamMessage};
use villein_core::wire::serf::{decode_serf, decode_stream, encode_push_pull};
use villein_rpc::request::{Join, UserEvent};

pub(super) const CHECKS: &[Check] = &[
    ("a peer's request comes in every chunking", requests_of_peers),
    ("a peer's answer comes in every chunking", answers_of_peers),
    ("a client's requests come in every chunking", requests_of_clients),
    ("requests come in pieces and in piles", requests_in_pieces_and_piles),
    ("a client that asks much and reads everything gets all answers", a_long_pipeline),
    ("large states travel in both directions, in odd pieces", large_states),
    ("whoever has said everything gets an answer", half_closed),
    ("whoever stops within a word harms nobody", broken_off),
    ("connections are reset at every moment", resets),
];

/// Requests of clients.
const MEMBERS: &[u8] = b"\x82\xa7Command\xa7members\xa3Seq\x02";
pub(super) const STATS: &[u8] = b"\x82\xa7Command\xa5stats\xa3Seq\x02";

/// A request of some length: keys that nobody knows are skipped.
pub(super) fn long_request() -> Vec<u8> {
    [b"\x83\xa7Command\xa5stats\xa3Seq\x02\xa4Skip\xda\x04\x00", &[b'x'; 1024][..]].concat()
}

/// What an agent answers to a peer without a state: its own.
pub(super) fn state_of(agent: &Running) -> Vec<u8> {
    let mut nothing = Vec::new();
    encode_push_pull(false, iter::empty(), b"", &mut nothing);
    ask(agent.peer(), &nothing)
}

fn requests_of_peers(run: Run) {
    let agent = Running::ready_with(run, "alpha", patient);
    // Its own state tells it nothing new, and so its answers are alike.
    let state = state_of(&agent);
    assert!(matches!(decode_stream(&state), Ok(StreamMessage::PushPull(_))));
    in_two_pieces(&agent, &state, &state, Running::peer);
    let mut peer = agent.peer();
    for byte in &state {
        peer.write_all(&[*byte]).expect("the agent listens");
    }
    assert_eq!(read_to_end(&mut peer), state);
    assert_eq!(ask(agent.peer(), &[&state[..], b"and more"].concat()), state);
    agent.stop();
}

fn requests_of_clients(run: Run) {
    let agent = Running::ready(run, "alpha");
    let talk = [&handshake()[..], MEMBERS, STATS].concat();
    let hear = |mut client: TcpStream| {
        client.write_all(&talk).expect("the agent listens");
        client.shutdown(Shutdown::Write).expect("the connection is there");
        read_to_end(&mut client).len()
    };
    assert!(hear(agent.client()) > HELLO.len() + 2 * OK.len());
    let mut client = agent.greeted();
    client.write_all(MEMBERS).expect("the agent listens");
    client.shutdown(Shutdown::Write).expect("the connection is there");
    let members = [HELLO, &read_to_end(&mut client)].concat();
    in_two_pieces(&agent, &[&handshake()[..], MEMBERS].concat(), &members, Running::client);
    agent.stop();
}

/// Says the same on many connections, each time cut at another place; the answers are as expected.
fn in_two_pieces(agent: &Running, request: &[u8], answer: &[u8], connect: fn(&Running) -> TcpStream) {
    /// Connections at once.
    const MANY: usize = 100;
    let cuts: Vec<usize> = (1..=request.len()).collect();
    for cuts in cuts.chunks(MANY) {
        let begin = |cut: &usize| {
            let mut stream = connect(agent);
            stream.write_all(&request[..*cut]).expect("the agent listens");
            stream
        };
        let mut streams: Vec<TcpStream> = cuts.iter().map(begin).collect();
        agent.goes_on();
        for (stream, cut) in streams.iter_mut().zip(cuts) {
            stream.write_all(&request[*cut..]).expect("the agent listens");
            // A client is not hung up on before it says that it has no more to ask.
            let _ = stream.shutdown(Shutdown::Write);
        }
        for (mut stream, cut) in streams.into_iter().zip(cuts) {
            assert_eq!(read_to_end(&mut stream), answer, "cut at {cut}");
        }
    }
}

fn answers_of_peers(run: Run) {
    let agent = Running::ready_with(run, "alpha", patient);
    let (listener, length) = (listen(), state_of(&agent).len());
    let joins = join_often(&agent, &listener, length + 2);
    for cut in 1..=length {
        let (mut stream, state) = accept(&listener);
        // Its clock goes on with every join, and now and then takes one byte more.
        assert!(state.len() >= length);
        stream.write_all(&state[..cut]).expect("the agent listens");
        agent.goes_on();
        // It may have all that it wants, and close the connection.
        let _ = stream.write_all(&state[cut..]);
        assert_eq!(read_to_end(&mut stream), b"", "cut at {cut}");
    }
    let (mut stream, state) = accept(&listener);
    for byte in &state {
        stream.write_all(&[*byte]).expect("the agent listens");
    }
    assert_eq!(read_to_end(&mut stream), b"");
    let (mut stream, state) = accept(&listener);
    stream.write_all(&[&state[..], b"and more"].concat()).expect("the agent listens");
    stream.shutdown(Shutdown::Write).expect("the connection is there");
    drop(stream);
    for outcome in joins.join().expect("it only asks") {
        assert_eq!(outcome, Ok(1));
    }
    agent.stop();
}

/// Joins who listens there, time after time; what came of it.
fn join_often(
    agent: &Running,
    listener: &TcpListener,
    times: usize,
) -> thread::JoinHandle<Vec<Result<i32, String>>> {
    let text = listener.local_addr().expect("it is bound").to_string();
    let mut client = agent.rpc_client();
    thread::spawn(move || {
        let join = || Join { existing: vec![text.as_str().into()], replay: false };
        iter::repeat_with(|| client.join(join()).map_err(|error| error.to_string())).take(times).collect()
    })
}

/// The next connection of an agent that joins, with all that it says.
fn accept(listener: &TcpListener) -> (TcpStream, Vec<u8>) {
    let mut stream = accept_only(listener);
    let request = read_request(&mut stream);
    (stream, request)
}

fn accept_only(listener: &TcpListener) -> TcpStream {
    let (stream, _) = listener.accept().expect("the agent connects");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket takes a time limit");
    stream.set_nodelay(true).expect("a socket takes the option");
    stream
}

fn requests_in_pieces_and_piles(run: Run) {
    const PILE: usize = 5000;
    let agent = Running::ready(run, "alpha");
    let mut client = agent.client();
    for byte in handshake() {
        client.write_all(&[byte]).expect("the agent listens");
    }
    assert_eq!(read(&mut client, HELLO.len()), HELLO);
    let mut pile = client.try_clone().expect("a socket can be shared");
    let writer = thread::spawn(move || {
        pile.write_all(&MEMBERS.repeat(PILE)).expect("the agent takes all requests");
    });
    read_answers(&mut client, OK, PILE);
    writer.join().expect("it only writes");
    agent.stop();
}

/// More requests in bytes than the agent keeps, and more answers than it writes unread.
fn a_long_pipeline(run: Run) {
    const PILE: usize = 5000;
    let agent = Running::ready(run, "alpha");
    let mut client = agent.greeted();
    let mut pile = client.try_clone().expect("a socket can be shared");
    let writer = thread::spawn(move || {
        pile.write_all(&long_request().repeat(PILE)).expect("the agent takes all requests");
    });
    read_answers(&mut client, OK, PILE);
    writer.join().expect("it only writes");
    agent.stop();
}

fn large_states(run: Run) {
    const EVENTS: usize = 400;
    const PAYLOAD: usize = 8 << 10;
    let roomy = |config: &mut Config| {
        patient(config);
        (config.node.user_event_size_limit, config.node.udp_buffer_size) = (9 << 10, 10 << 10);
    };
    let alpha = Running::ready_with(run, "alpha", roomy);
    // No two pieces of it are alike.
    let mut contents = Rng::new([3; 32]);
    let payload: Vec<u8> = iter::repeat_with(|| contents.u64() as u8).take(PAYLOAD).collect();
    let mut client = alpha.rpc_client();
    for number in 0..EVENTS {
        let name = format!("{number}").as_str().into();
        let event = UserEvent { name, payload: Some(payload.clone()), coalesce: false };
        client.event(event).expect("there is room for it");
    }
    let events = |state: &[u8]| {
        let Ok(StreamMessage::PushPull(state)) = decode_stream(state) else { panic!("all of it is there") };
        let Ok(SerfMessage::PushPull(state)) = decode_serf(state.user_state) else { panic!("it is a state") };
        let events = state.events.iter().flat_map(|slot| &slot.events);
        events.filter(|(_, carried)| *carried == Some(&payload)).count()
    };
    // More than the system holds for whoever reads little at a time.
    let mut reader = deaf(alpha.gossip);
    let mut nothing = Vec::new();
    encode_push_pull(false, iter::empty(), b"", &mut nothing);
    reader.write_all(&nothing).expect("the agent listens");
    alpha.goes_on();
    let (mut rng, mut state, mut chunk) = (Rng::new([2; 32]), Vec::new(), vec![0; 40_000]);
    loop {
        let most = 1 + rng.below(chunk.len());
        match reader.read(&mut chunk[..most]).expect("the agent answers") {
            0 => break,
            length => state.extend_from_slice(&chunk[..length]),
        }
    }
    assert_eq!(events(&state), EVENTS);
    assert!(state.len() > EVENTS * PAYLOAD);

    let beta = Running::ready_with(run, "beta", roomy);
    let mut writer = beta.peer();
    let mut rest = &state[..];
    while !rest.is_empty() {
        let (piece, others) = rest.split_at(rest.len().min(1 + rng.below(40_000)));
        writer.write_all(piece).expect("the agent listens");
        rest = others;
    }
    assert!(matches!(decode_stream(&read_to_end(&mut writer)), Ok(StreamMessage::PushPull(_))));
    assert_eq!(events(&state_of(&beta)), EVENTS, "all of the state has been understood");

    // And between two agents.
    let gamma = Running::start(run, "gamma", |config| {
        roomy(config);
        (config.start_join, config.replay_on_join) = (vec![alpha.gossip.to_string()], true);
    });
    gamma.screen.wait_for("Join completed. Synced with 1 initial agents");
    assert_eq!(events(&state_of(&gamma)), EVENTS);

    // Somebody who breaks off in the middle.
    let mut reader = deaf(alpha.gossip);
    reader.write_all(&nothing).expect("the agent listens");
    read(&mut reader, 10_000);
    reset(reader);
    alpha.goes_on();
    for agent in [alpha, beta, gamma] {
        agent.stop();
    }
}

fn half_closed(run: Run) {
    let agent = Running::ready_with(run, "alpha", patient);
    let mut client = agent.client();
    client.write_all(&handshake()).expect("the agent listens");
    client.shutdown(Shutdown::Write).expect("the connection is there");
    assert_eq!(read_to_end(&mut client), HELLO);

    let state = state_of(&agent);
    let mut peer = agent.peer();
    peer.write_all(&state).expect("the agent listens");
    peer.shutdown(Shutdown::Write).expect("the connection is there");
    assert_eq!(read_to_end(&mut peer), state);

    // The agent says so when it has said everything: nobody waits until it gives the connection up.
    let (began, often) = (Instant::now(), 2 * PATIENCE.as_secs() / limits::CLOSE_LINGER.as_secs());
    for number in 0..often as u32 {
        assert_eq!(ask(agent.peer(), &stream_ping(number)), stream_ack(number));
    }
    assert!(began.elapsed() < PATIENCE, "the ends of {often} connections came late");

    let listener = listen();
    let joins = join_often(&agent, &listener, 2);
    // One that hears the agent out, and one that does not.
    let (mut stream, state) = accept(&listener);
    stream.write_all(&state).expect("the agent listens");
    stream.shutdown(Shutdown::Write).expect("the connection is there");
    assert_eq!(read_to_end(&mut stream), b"");
    let mut stream = accept_only(&listener);
    stream.shutdown(Shutdown::Write).expect("the connection is there");
    read_to_end(&mut stream);
    let outcomes = joins.join().expect("it only asks");
    assert_eq!(outcomes[0], Ok(1));
    let why = outcomes[1].as_ref().expect_err("nothing was answered");
    assert!(why.contains("the peer closed the connection without an answer"), "{why}");
    agent.stop();
}

fn broken_off(run: Run) {
    let agent = Running::ready_with(run, "alpha", patient);
    let state = state_of(&agent);
    let held = Held::at_rest();
    for (connect, request) in
        [(Running::peer as fn(&Running) -> TcpStream, state), (Running::client, handshake())]
    {
        for cut in 0..request.len() {
            let mut stream = connect(&agent);
            stream.write_all(&request[..cut]).expect("the agent listens");
            stream.shutdown(Shutdown::Write).expect("the connection is there");
            assert_eq!(read_to_end(&mut stream), b"", "cut at {cut}");
        }
    }
    held.comes_back();
    agent.goes_on();
    agent.stop();
}

fn resets(run: Run) {
    let agent = Running::ready_with(run, "alpha", patient);
    let state = state_of(&agent);
    let held = Held::at_rest();
    for round in 0..8 {
        let requests = [(agent.peer(), &state), (agent.peer(), &state), (agent.client(), &handshake())];
        for (mut stream, request) in requests {
            // Nothing is said, a part of a request, or all of it.
            let length = request.len() * (round % 3) / 2;
            stream.write_all(&request[..length]).expect("the agent listens");
            if round >= 4 {
                agent.goes_on();
            }
            reset(stream);
        }
        let mut other = deaf(agent.rpc);
        other.write_all(&handshake()).expect("the agent listens");
        // While it answers, or cannot.
        if round < 2 {
            write_until_full(&mut other, &STATS.repeat(100));
        } else {
            other.write_all(&STATS.repeat(100)).expect("the agent listens");
        }
        reset(other);
    }
    agent.goes_on();

    let listener = listen();
    let joins = join_often(&agent, &listener, 3);
    reset(accept_only(&listener));
    reset(accept(&listener).0);
    let (mut stream, state) = accept(&listener);
    stream.write_all(&state[..state.len() / 2]).expect("the agent listens");
    agent.goes_on();
    reset(stream);
    for outcome in joins.join().expect("it only asks") {
        let why = outcome.expect_err("nothing whole was answered");
        assert!(why.contains("connection reset by peer") || why.contains("broken pipe"), "{why}");
    }
    drop(listener);
    held.comes_back();
    agent.goes_on();
    agent.stop();
}

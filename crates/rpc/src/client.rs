//! A small client that blocks: one connection, one method per command.
//!
//! Decides the order of reading: which objects belong to an answer, which are records of subscriptions,
//! and how long to wait. It starts no thread and keeps no cache. Answers that are immediate by nature are
//! waited for during a bounded time (cli.md 7); operations that take the cluster's time are not.
//!
//! The invariant: after any error but [`RpcError::Refused`] the position in the stream is unknown, so the
//! connection is shut down and every later call gives [`RpcError::Closed`].

use crate::dial::{self, ConnectError};
use crate::framing::{Limits, Objects};
use crate::request::{
    Auth, CoordinateOf, ForceLeave, Handshake, Join, Key, MemberFilter, Monitor, Query, Request, Respond,
    Stop, Stream, TagChange, UserEvent, VERSION,
};
use crate::response::{
    FromReply, Joined, KeyReport, Located, Member, QueryAnswer, QueryRecord, Record, ResponseHeader, Stats,
    refusal,
};
use crate::system::os_words;
use crate::text::Text;
use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

/// How long one write may wait for room (cli.md 2).
const WRITE_TIMEOUT: Duration = Duration::from_secs(10);

/// How long an answer that is immediate by nature may take: a busy agent answers within a second, a stopped
/// one never, and an event waits for one round of gossip at most.
const REPLY_TIMEOUT: Duration = Duration::from_secs(30);

/// Records that are kept while another answer is awaited: twice what an agent queues for one stream and one
/// monitor together (rpc.md 5.3).
const RECORDS_MAX: usize = 2048;

/// How much is read at once: a page of members or a burst of log lines.
const READ_BYTES: usize = 16 << 10;

/// Why a request has no answer.
#[derive(Debug)]
pub enum RpcError {
    /// The agent says no, in these words. The connection is still good.
    Refused(Text),
    /// The connection ended, or what came is not the protocol.
    Closed,
    /// The agent did not answer, or did not take the request, in time.
    TimedOut {
        /// The address as it was given to [`Client::connect`].
        addr: String,
        /// How long it had.
        limit: Duration,
    },
    /// The operating system says no.
    Io(io::Error),
}

impl fmt::Display for RpcError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RpcError::Refused(text) => text.fmt(f),
            RpcError::Closed => f.write_str("client closed"),
            RpcError::TimedOut { addr, limit } => write!(f, "no answer from {addr} within {limit:?}"),
            RpcError::Io(error) => f.write_str(&os_words(error)),
        }
    }
}

impl std::error::Error for RpcError {}

/// The answer to a key command: the report comes also with an error, and says which members failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyAnswer {
    /// What went wrong, when something did.
    pub error: Option<Text>,
    /// What the members said.
    pub report: KeyReport,
}

/// One connection to an agent.
#[derive(Debug)]
pub struct Client {
    socket: TcpStream,
    addr: String,
    objects: Objects,
    seq: u64,
    reply_timeout: Option<Duration>,
    record_timeout: Option<Duration>,
    /// `Seq`s under which records come: true while somebody wants them.
    subscriptions: BTreeMap<u64, bool>,
    /// Records that arrived while something else was awaited.
    records: VecDeque<(u64, Record)>,
    closed: bool,
}

impl Client {
    /// Connects, shakes hands, and sends the token if there is one.
    ///
    /// `addr` is `host:port`, `[v6]:port` or `:port` for this machine; a port may be the name of a service.
    pub fn connect(addr: &str, auth: Option<&[u8]>) -> Result<Client, ConnectError> {
        let socket = dial::dial(addr)?;
        Client::start(socket, addr, auth).map_err(ConnectError::Session)
    }

    fn start(socket: TcpStream, addr: &str, auth: Option<&[u8]>) -> Result<Client, RpcError> {
        socket.set_write_timeout(Some(WRITE_TIMEOUT)).map_err(RpcError::Io)?;
        socket.set_nodelay(true).map_err(RpcError::Io)?;
        let mut client = Client {
            socket,
            addr: addr.to_owned(),
            objects: Objects::new(Limits::RESPONSE),
            seq: 0,
            reply_timeout: Some(REPLY_TIMEOUT),
            record_timeout: None,
            subscriptions: BTreeMap::new(),
            records: VecDeque::new(),
            closed: false,
        };
        client.quick(&Request::Handshake(Handshake { version: VERSION }))?;
        if let Some(token) = auth {
            client.quick(&Request::Auth(Auth { auth_key: Text::from(token) }))?;
        }
        Ok(client)
    }

    /// Changes how long immediate answers may take; `None` waits for ever. It is 30 s at first.
    pub fn set_reply_timeout(&mut self, limit: Option<Duration>) {
        self.reply_timeout = limit;
    }

    /// Changes how long one record may take to come; `None`, as it is at first, waits for ever.
    pub fn set_record_timeout(&mut self, limit: Option<Duration>) {
        self.record_timeout = limit;
    }

    /// All members, also those that left or failed and were not forgotten yet.
    pub fn members(&mut self) -> Result<Vec<Member>, RpcError> {
        self.quick_reply(&Request::Members)
    }

    /// The members that match.
    pub fn members_filtered(&mut self, filter: MemberFilter) -> Result<Vec<Member>, RpcError> {
        // An agent that answers a bad expression sends a body with the error; the reference closes (rpc.md 6.5).
        let (error, members) =
            self.reply_with_error(&Request::MembersFiltered(filter), self.reply_timeout)?;
        accepted(error).map(|()| members)
    }

    /// Contacts other agents; says how many of them answered.
    pub fn join(&mut self, join: Join) -> Result<i32, RpcError> {
        let (error, joined): (Text, Joined) = self.reply_with_error(&Request::Join(join), None)?;
        accepted(error).map(|()| joined.num)
    }

    /// Makes the agent leave and exit.
    pub fn leave(&mut self) -> Result<(), RpcError> {
        self.call(&Request::Leave, None)
    }

    /// Declares a failed member gone.
    pub fn force_leave(&mut self, force_leave: ForceLeave) -> Result<(), RpcError> {
        self.call(&Request::ForceLeave(force_leave), None)
    }

    /// Fires a user event.
    pub fn event(&mut self, event: UserEvent) -> Result<(), RpcError> {
        self.quick(&Request::Event(event))
    }

    /// Asks the cluster; the answers come until the time of the query is over.
    pub fn query(&mut self, query: Query) -> Result<QueryAnswers<'_>, RpcError> {
        let seq = self.subscribe(&Request::Query(query))?;
        Ok(QueryAnswers { client: self, seq, over: false })
    }

    /// Answers a query that came on a stream.
    pub fn respond(&mut self, respond: Respond) -> Result<(), RpcError> {
        self.quick(&Request::Respond(respond))
    }

    /// Numbers about the agent.
    pub fn stats(&mut self) -> Result<Stats, RpcError> {
        self.quick_reply(&Request::Stats)
    }

    /// Changes the agent's tags.
    pub fn tags(&mut self, change: TagChange) -> Result<(), RpcError> {
        self.quick(&Request::Tags(change))
    }

    /// The coordinate of a member.
    pub fn get_coordinate(&mut self, node: impl Into<Text>) -> Result<Located, RpcError> {
        self.quick_reply(&Request::GetCoordinate(CoordinateOf { node: node.into() }))
    }

    /// Adds an encryption key, in base64, everywhere.
    pub fn install_key(&mut self, key: impl Into<Text>) -> Result<KeyAnswer, RpcError> {
        self.key_command(&Request::InstallKey(Key { key: key.into() }))
    }

    /// Changes the primary key everywhere.
    pub fn use_key(&mut self, key: impl Into<Text>) -> Result<KeyAnswer, RpcError> {
        self.key_command(&Request::UseKey(Key { key: key.into() }))
    }

    /// Removes a key everywhere.
    pub fn remove_key(&mut self, key: impl Into<Text>) -> Result<KeyAnswer, RpcError> {
        self.key_command(&Request::RemoveKey(Key { key: key.into() }))
    }

    /// Which keys are installed on how many members.
    pub fn list_keys(&mut self) -> Result<KeyAnswer, RpcError> {
        self.key_command(&Request::ListKeys)
    }

    /// Subscribes to the events of a filter list; gives the `Seq` of their records.
    pub fn stream(&mut self, filter: impl Into<Text>) -> Result<u64, RpcError> {
        self.subscribe(&Request::Stream(Stream { filter: filter.into() }))
    }

    /// Subscribes to log lines from this level up; gives the `Seq` of their records.
    pub fn monitor(&mut self, log_level: impl Into<Text>) -> Result<u64, RpcError> {
        self.subscribe(&Request::Monitor(Monitor { log_level: log_level.into() }))
    }

    /// Ends a subscription. Records of it that are still under way are dropped (rpc.md 5.6).
    pub fn stop(&mut self, subscription: u64) -> Result<(), RpcError> {
        self.quick(&Request::Stop(Stop { stop: subscription }))?;
        self.forget(subscription);
        Ok(())
    }

    /// Waits for the next record of any subscription; gives the `Seq` that the subscription got.
    pub fn next_record(&mut self) -> Result<(u64, Record), RpcError> {
        match self.records.pop_front() {
            Some(record) => Ok(record),
            None => self.keep(|client| client.await_record(|_| true)),
        }
    }

    /// A command that is answered at once with a header alone.
    fn quick(&mut self, request: &Request) -> Result<(), RpcError> {
        self.call(request, self.reply_timeout)
    }

    /// A command that is answered at once with a header and, unless it is refused, a body.
    fn quick_reply<T: FromReply>(&mut self, request: &Request) -> Result<T, RpcError> {
        let wait = Wait::from_now(self.reply_timeout);
        self.keep(|client| {
            let seq = client.send(request)?;
            accepted(client.answer(seq, wait)?)?;
            client.body(wait)
        })
    }

    fn call(&mut self, request: &Request, limit: Option<Duration>) -> Result<(), RpcError> {
        let wait = Wait::from_now(limit);
        self.keep(|client| {
            let seq = client.send(request)?;
            accepted(client.answer(seq, wait)?)
        })
    }

    /// A command whose body comes also with an error, except when nobody looked at the request (rpc.md 3.3).
    fn reply_with_error<T: FromReply>(
        &mut self,
        request: &Request,
        limit: Option<Duration>,
    ) -> Result<(Text, T), RpcError> {
        let wait = Wait::from_now(limit);
        self.keep(|client| {
            let seq = client.send(request)?;
            let error = client.answer(seq, wait)?;
            if refusal::WITHOUT_BODY.iter().any(|text| error == *text) {
                return Err(RpcError::Refused(error));
            }
            Ok((error, client.body(wait)?))
        })
    }

    fn key_command(&mut self, request: &Request) -> Result<KeyAnswer, RpcError> {
        let (error, report) = self.reply_with_error(request, None)?;
        Ok(KeyAnswer { error: Some(error).filter(|text| !text.is_empty()), report })
    }

    fn subscribe(&mut self, request: &Request) -> Result<u64, RpcError> {
        self.quick(request)?;
        self.subscriptions.insert(self.seq, true);
        Ok(self.seq)
    }

    fn forget(&mut self, subscription: u64) {
        if let Some(wanted) = self.subscriptions.get_mut(&subscription) {
            *wanted = false;
        }
        self.records.retain(|(seq, _)| *seq != subscription);
    }

    /// Does one exchange, and gives the connection up when it fails in the middle.
    fn keep<T>(&mut self, exchange: impl FnOnce(&mut Client) -> Result<T, RpcError>) -> Result<T, RpcError> {
        if self.closed {
            return Err(RpcError::Closed);
        }
        let result = exchange(self);
        if let Err(error) = &result
            && !matches!(error, RpcError::Refused(_))
        {
            self.closed = true;
            // The peer may have closed before; there is nobody left to tell.
            let _ = self.socket.shutdown(Shutdown::Both);
        }
        result
    }

    /// Sends a request; gives its number, counted from 1 as the standard client does.
    fn send(&mut self, request: &Request) -> Result<u64, RpcError> {
        self.seq += 1;
        let mut bytes = Vec::new();
        request.encode(self.seq, &mut bytes);
        self.socket.write_all(&bytes).map_err(|error| self.lost(error, Some(WRITE_TIMEOUT)))?;
        Ok(self.seq)
    }

    /// Reads up to the header of an answer; gives its error text. Records that come first are kept.
    fn answer(&mut self, seq: u64, wait: Wait) -> Result<Text, RpcError> {
        loop {
            match self.arrival(wait)? {
                Arrival::Answer(header) if header.seq == seq => return Ok(header.error),
                // The reference answers twice when it takes the body of a refused request for a header (rpc.md 4.2).
                Arrival::Answer(_) => {}
                Arrival::Record(seq, record) => self.keep_record(seq, record)?,
            }
        }
    }

    fn body<T: FromReply>(&mut self, wait: Wait) -> Result<T, RpcError> {
        T::from_reply(self.object(wait)?).map_err(|_| RpcError::Closed)
    }

    /// Reads up to a record that is wanted; others are kept.
    fn await_record(&mut self, wanted: impl Fn(u64) -> bool) -> Result<(u64, Record), RpcError> {
        let wait = Wait::from_now(self.record_timeout);
        loop {
            match self.arrival(wait)? {
                Arrival::Record(seq, record) if wanted(seq) => return Ok((seq, record)),
                Arrival::Record(seq, record) => self.keep_record(seq, record)?,
                Arrival::Answer(_) => {}
            }
        }
    }

    fn keep_record(&mut self, seq: u64, record: Record) -> Result<(), RpcError> {
        if self.records.len() >= RECORDS_MAX {
            let text = "too many records arrived before the answer";
            return Err(RpcError::Io(io::Error::other(text)));
        }
        self.records.push_back((seq, record));
        Ok(())
    }

    /// Reads a header, and the body if it is a record. Records nobody wants are dropped here.
    fn arrival(&mut self, wait: Wait) -> Result<Arrival, RpcError> {
        loop {
            let header = ResponseHeader::decode(self.object(wait)?).map_err(|_| RpcError::Closed)?;
            match self.subscriptions.get(&header.seq) {
                None => return Ok(Arrival::Answer(header)),
                Some(wanted) => {
                    let wanted = *wanted;
                    let record = Record::decode(self.object(wait)?).map_err(|_| RpcError::Closed)?;
                    if wanted {
                        return Ok(Arrival::Record(header.seq, record));
                    }
                }
            }
        }
    }

    /// Reads one object.
    fn object(&mut self, wait: Wait) -> Result<&[u8], RpcError> {
        let range = loop {
            match self.objects.next_range() {
                Err(_) => return Err(RpcError::Closed),
                Ok(Some(range)) => break range,
                Ok(None) => self.read(wait)?,
            }
        };
        Ok(self.objects.object(range))
    }

    /// Reads what there is, at least one byte.
    fn read(&mut self, wait: Wait) -> Result<(), RpcError> {
        let mut chunk = [0; READ_BYTES];
        loop {
            let left = wait.left();
            if left == Some(Duration::ZERO) {
                return Err(self.late(wait.limit));
            }
            self.socket.set_read_timeout(left).map_err(RpcError::Io)?;
            match self.socket.read(&mut chunk) {
                Ok(0) => return Err(RpcError::Closed),
                Ok(len) => {
                    self.objects.push(&chunk[..len]);
                    return Ok(());
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(self.lost(error, wait.limit)),
            }
        }
    }

    /// Without a limit of ours it is the system that gave the peer up.
    fn late(&self, limit: Option<Duration>) -> RpcError {
        limit.map_or(RpcError::Closed, |limit| RpcError::TimedOut { addr: self.addr.clone(), limit })
    }

    fn lost(&self, error: io::Error, limit: Option<Duration>) -> RpcError {
        match error.kind() {
            ErrorKind::WouldBlock | ErrorKind::TimedOut => self.late(limit),
            ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::NotConnected
            | ErrorKind::WriteZero => RpcError::Closed,
            _ => RpcError::Io(error),
        }
    }
}

/// The answers to a query, as they come.
///
/// The iterator ends when the agent says that the time is over; an `Err` before says that the connection was
/// lost, and is the last item. Dropped before, the rest of the answers is ignored; the query goes on.
///
/// Answers of nobody are left out: when the time is over the reference can send thousands of empty acks and
/// responses before it says so.
#[derive(Debug)]
pub struct QueryAnswers<'a> {
    client: &'a mut Client,
    seq: u64,
    over: bool,
}

impl Iterator for QueryAnswers<'_> {
    type Item = Result<QueryAnswer, RpcError>;

    fn next(&mut self) -> Option<Result<QueryAnswer, RpcError>> {
        while !self.over {
            let item = match self.record() {
                Ok(Record::Answer(QueryRecord::Answer(answer))) if answer.from().is_empty() => continue,
                Ok(Record::Answer(QueryRecord::Answer(answer))) => return Some(Ok(answer)),
                Ok(Record::Answer(QueryRecord::Done)) => None,
                Ok(_) => Some(Err(RpcError::Closed)),
                Err(error) => Some(Err(error)),
            };
            self.over = true;
            return item;
        }
        None
    }
}

impl QueryAnswers<'_> {
    fn record(&mut self) -> Result<Record, RpcError> {
        let seq = self.seq;
        let kept = self.client.records.iter().position(|(of, _)| *of == seq);
        match kept.and_then(|index| self.client.records.remove(index)) {
            Some((_, record)) => Ok(record),
            None => self.client.keep(|client| client.await_record(|of| of == seq)).map(|(_, record)| record),
        }
    }
}

impl Drop for QueryAnswers<'_> {
    fn drop(&mut self) {
        self.client.forget(self.seq);
    }
}

/// What a header begins.
enum Arrival {
    Answer(ResponseHeader),
    Record(u64, Record),
}

/// How long an exchange may take, counted from its begin.
#[derive(Clone, Copy)]
struct Wait {
    limit: Option<Duration>,
    began: Instant,
}

impl Wait {
    fn from_now(limit: Option<Duration>) -> Wait {
        Wait { limit, began: Instant::now() }
    }

    /// What is left; zero when the time is over, `None` without a limit.
    fn left(self) -> Option<Duration> {
        self.limit.map(|limit| limit.saturating_sub(self.began.elapsed()))
    }
}

fn accepted(error: Text) -> Result<(), RpcError> {
    if error.is_empty() { Ok(()) } else { Err(RpcError::Refused(error)) }
}

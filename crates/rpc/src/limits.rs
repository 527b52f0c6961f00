//! Every bound of a hop, and why it is what it is.

use std::time::Duration;

/// The largest Kafka frame, which is what the records of one request may amount to.
pub const MAX_PAYLOAD: usize = 100 * MIB;

/// The largest message: the largest payload, and room for what stands around it.
pub const MAX_MESSAGE: usize = MAX_PAYLOAD + 4 * MIB;

/// The largest request of an ordered stream: the message around it takes a few bytes more.
pub(crate) const MAX_REQUEST: usize = MAX_MESSAGE - KIB;

/// What a fetch over a hop asks for at most. Above it the answer would not fit a message: the last batch of each
/// partition may go over what was asked for.
pub const MAX_FETCH: usize = 64 * MIB;

/// All messages of the answer to one question together: what a fetch asks for, and a batch that is larger than was asked.
pub(crate) const MAX_ANSWER: usize = MAX_FETCH + MAX_MESSAGE;

/// What waits for a peer goes in messages of about this size. Larger ones are no faster and delay what follows.
pub(crate) const COALESCED_BYTES: usize = MIB;
/// How many requests or answers go in one message at most, so that small ones are answered in between.
pub(crate) const COALESCED_ITEMS: usize = 1_024;

/// How much may be unanswered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct InFlight {
    pub(crate) requests: usize,
    pub(crate) bytes: usize,
}

/// Requests to one peer that are not answered yet: above it the peer is not keeping up, and waiting in memory for it
/// would only make the clients time out. The number is for small requests: a thousand connections with more than five
/// requests each.
pub(crate) const IN_FLIGHT: InFlight = InFlight { requests: 16_384, bytes: 64 * MIB };
/// Requests that wait at the peer for others: members of thousands of groups that rebalance at once. What they carry is
/// not held on this side.
pub(crate) const PARKED: InFlight = InFlight { requests: 65_536, bytes: 128 * MIB };

/// A server does not read on while this much of a stream is unanswered. The client stops before that, unless it is not
/// one of ours.
pub(crate) const UNANSWERED: InFlight = InFlight { requests: 2 * IN_FLIGHT.requests, bytes: 2 * IN_FLIGHT.bytes };
/// As [`UNANSWERED`], of a stream on which requests are parked.
pub(crate) const UNANSWERED_PARKED: InFlight =
    InFlight { requests: UNANSWERED.requests + 2 * PARKED.requests, bytes: UNANSWERED.bytes + 2 * PARKED.bytes };

/// The largest answer of a group: the metadata of all members, for their leader. Others may go in the same message.
pub(crate) const MAX_GROUP_ANSWER: usize = 64 * MIB;

/// HTTP/2 windows and frames, as measured: with windows of 1 to 4 MiB and frames of 64 KiB to 1 MiB a hop moves
/// 2 GB/s; much larger ones are slower. The largest batch of a topic with Kafka's own `max.message.bytes` fits a frame, so
/// that it is not put together from several.
pub(crate) const STREAM_WINDOW: u32 = 4 * MIB as u32;
/// Above a stream's, so that one reader that is slow does not stop the connection's other streams.
pub(crate) const CONNECTION_WINDOW: u32 = 16 * MIB as u32;
pub(crate) const FRAME: u32 = (MIB + 64 * KIB) as u32;

/// Every long-polling fetch that a gateway has with a broker is a stream of one connection. The protocol's default of
/// the library, 200, would make consumers wait for each other.
pub(crate) const CONCURRENT_STREAMS: u32 = 65_536;
/// A gateway that loses its consumers cancels their fetches all at once. The library's default of 20 takes that for an
/// attack and closes the connection.
pub(crate) const RESET_STREAMS: usize = 65_536;

/// A peer that does not answer a ping for this long is gone.
pub(crate) const PING_INTERVAL: Duration = Duration::from_secs(5);
pub(crate) const PING_TIMEOUT: Duration = Duration::from_secs(5);
/// A machine that does not answer at all.
pub(crate) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// How long a peer that could not be reached is left alone: requests fail at once meanwhile.
pub(crate) const REST_FIRST: Duration = Duration::from_millis(50);
pub(crate) const REST_LIMIT: Duration = Duration::from_secs(1);

/// What is added to how long a request may take at the peer, for the way there and back.
pub(crate) const HOP_MARGIN: Duration = Duration::from_secs(5);
/// How long a read, an offset query or an epoch query may take.
pub(crate) const READ_DEADLINE: Duration = Duration::from_secs(15);
/// How long a group may take to answer what does not wait for other members.
pub(crate) const GROUP_DEADLINE: Duration = Duration::from_secs(15);
/// The least that a join is waited for, and what a sync is, beyond the way there and back. The group waits for the
/// longest of its members' rebalance timeouts, and a new member is expected for five minutes in Kafka.
pub(crate) const REBALANCE_DEADLINE: Duration = Duration::from_secs(300);
/// How long a coordinator may be silent on a stream of the cluster state, where it says something every second, before
/// another is asked. A group's owner that died is replaced six to seven seconds later, and gateways are to know of it before
/// the nine are over that clients wait for at least.
pub(crate) const FEED_SILENCE: Duration = Duration::from_secs(3);
/// How long it may take to register who joins in the metadata store. Less than followers wait, so that they go to another.
pub(crate) const JOIN_SILENCE: Duration = Duration::from_secs(8);
/// How long a call on the coordinators may take, all attempts together.
pub(crate) const COORDINATOR_DEADLINE: Duration = Duration::from_secs(15);
/// Rounds that a call makes over the coordinators before it fails.
pub(crate) const COORDINATOR_ROUNDS: usize = 2;

/// A client of a peer that nobody asked for in this time is closed, when the pool is next added to.
pub(crate) const IDLE_CLIENT: Duration = Duration::from_secs(300);

/// The longest time that a message can name: Kafka's fields are 32-bit milliseconds.
pub(crate) const MAX_WAIT_MS: u32 = i32::MAX as u32;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

const _: () = assert!(STREAM_WINDOW < CONNECTION_WINDOW && COALESCED_BYTES < STREAM_WINDOW as usize);
const _: () = assert!(MAX_FETCH < MAX_MESSAGE);
const _: () = assert!(COALESCED_BYTES + MAX_GROUP_ANSWER < MAX_MESSAGE);

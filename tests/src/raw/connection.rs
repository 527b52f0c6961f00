//! One TCP connection and its frames.

use std::io::{self, Read as _, Write as _};
use std::net::TcpStream;

use super::{Reader, Writer};
use crate::clients::PATIENCE;

/// A connection to one broker.
#[derive(Debug)]
pub struct Connection {
    stream: TcpStream,
    next_correlation: i32,
}

/// How a connection went on.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// The other side closed it.
    Closed,
    /// It answered.
    Answered(Vec<u8>),
}

/// From which version on a request has tagged fields, and with them the newer header.
pub(super) fn is_flexible(key: i16, version: i16) -> bool {
    let first = match key {
        0 => 9,  // Produce
        1 => 12, // Fetch
        2 => 6,  // ListOffsets
        3 => 9,  // Metadata
        8 => 8,  // OffsetCommit
        9 => 6,  // OffsetFetch
        10 => 3, // FindCoordinator
        11 => 6, // JoinGroup
        12 => 4, // Heartbeat
        13 => 4, // LeaveGroup
        14 => 4, // SyncGroup
        15 => 5, // DescribeGroups
        16 => 3, // ListGroups
        18 => 3, // ApiVersions
        21 => 2, // DeleteRecords
        22 => 2, // InitProducerId
        23 => 4, // OffsetForLeaderEpoch
        32 => 4, // DescribeConfigs
        42 => 2, // DeleteGroups
        44 => 1, // IncrementalAlterConfigs
        60 => 0, // DescribeCluster
        68 => 0, // ConsumerGroupHeartbeat
        69 => 0, // ConsumerGroupDescribe
        75 => 0, // DescribeTopicPartitions
        _ => i16::MAX,
    };
    version >= first
}

impl Connection {
    /// Connects to the first of the addresses.
    pub fn open(bootstrap: &str) -> Self {
        let address = bootstrap.split(',').next().unwrap_or(bootstrap);
        let stream = TcpStream::connect(address).unwrap_or_else(|error| panic!("{address}: {error}"));
        stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        stream.set_nodelay(true).expect("TCP has the option");
        Self { stream, next_correlation: 1 }
    }

    /// A whole frame: length, header, body.
    pub fn frame(key: i16, version: i16, correlation: i32, body: &[u8]) -> Vec<u8> {
        let mut header = Writer::new().i16(key).i16(version).i32(correlation).string("tidemark-tests");
        if is_flexible(key, version) {
            header = header.tags();
        }
        let length = header.bytes.len() + body.len();
        Writer::new().i32(length as i32).raw(&header.bytes).raw(body).bytes
    }

    /// Sends a request and reads its answer, without its header.
    pub fn call(&mut self, key: i16, version: i16, body: &Writer) -> Vec<u8> {
        let correlation = self.send(key, version, body);
        self.answer(key, version, correlation)
    }

    /// Sends a request, and returns by which number its answer will be known.
    pub fn send(&mut self, key: i16, version: i16, body: &Writer) -> i32 {
        let correlation = self.next_correlation;
        self.next_correlation += 1;
        self.write(&Self::frame(key, version, correlation, &body.bytes));
        correlation
    }

    /// Reads the answer that must be next.
    pub fn answer(&mut self, key: i16, version: i16, correlation: i32) -> Vec<u8> {
        let frame = match self.end() {
            End::Answered(frame) => frame,
            End::Closed => panic!("closed instead of an answer to request {key} version {version}"),
        };
        Self::body(key, version, correlation, &frame).to_vec()
    }

    /// The body of an answer's frame, without the length before it.
    pub fn body(key: i16, version: i16, correlation: i32, frame: &[u8]) -> &[u8] {
        let mut reader = Reader::new(frame);
        assert_eq!(reader.i32(), correlation, "answers come in the order of their requests");
        // ApiVersions answers with the oldest header always: its reader may not know more.
        if is_flexible(key, version) && key != 18 {
            reader.tags();
        }
        let rest = reader.remaining();
        reader.raw(rest)
    }

    pub fn write(&mut self, bytes: &[u8]) {
        // The other side may have had enough of us already; what it then says is what the tests look at.
        let _ = self.stream.write_all(bytes);
    }

    /// Says that nothing more will come.
    pub fn finish(&mut self) {
        let _ = self.stream.shutdown(std::net::Shutdown::Write);
    }

    /// Waits for the next frame or the end of the connection.
    pub fn end(&mut self) -> End {
        let mut length = [0; 4];
        if let Err(error) = self.stream.read_exact(&mut length) {
            return match error.kind() {
                io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => {
                    End::Closed
                }
                _ => panic!("neither an answer nor an end: {error}"),
            };
        }
        let mut frame = vec![0; i32::from_be_bytes(length) as usize];
        self.stream.read_exact(&mut frame).expect("a frame is whole");
        End::Answered(frame)
    }

    /// Whether an answer comes within a short time. For showing that something still waits.
    pub fn is_silent_for(&mut self, time: std::time::Duration) -> bool {
        self.stream.set_read_timeout(Some(time)).expect("the timeout is not zero");
        let silent = matches!(self.stream.peek(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock);
        self.stream.set_read_timeout(Some(PATIENCE)).expect("the timeout is not zero");
        silent
    }
}

//! What a case asks of a client, whatever language it is in.

use anyhow::{Result, bail};
use serde::{Deserialize, Serialize};

use super::report::Report;

/// How many partitions a case's topics have.
pub(super) const PARTITIONS: u32 = 6;

/// A record to send.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Record {
    pub(super) key: Option<String>,
    pub(super) partition: Option<u32>,
    pub(super) value: String,
}

/// How the partition of a record is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    Key,
    RoundRobin,
    Partition(u32),
}

impl Way {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Key => "key",
            Self::RoundRobin => "round-robin",
            Self::Partition(_) => "partition",
        }
    }
}

/// Records that one producer sends.
#[derive(Debug)]
pub(super) struct Produce<'a> {
    pub(super) topic: &'a str,
    /// `None` is the client's default, as with the codec.
    pub(super) acks: Option<&'a str>,
    pub(super) codec: Option<&'a str>,
    pub(super) way: Way,
    pub(super) records: &'a [Record],
}

/// Partition and offset of an acknowledged record; without the offset where nothing was acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
pub(super) struct Placed(pub(super) u32, pub(super) i64);

/// A record that was read.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub(super) struct Received {
    pub(super) topic: String,
    pub(super) partition: u32,
    pub(super) offset: i64,
    pub(super) timestamp: i64,
    pub(super) key: Option<String>,
    pub(super) value: String,
}

/// Where reading starts, in every partition.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum From {
    Beginning,
    Offset(i64),
    Timestamp(i64),
}

/// Members of a group that read a topic together.
#[derive(Debug)]
pub(super) struct Group<'a> {
    pub(super) group: &'a str,
    pub(super) topic: &'a str,
    pub(super) protocol: &'a str,
    pub(super) assignor: &'a str,
    /// How many records the first member reads before there is a second.
    pub(super) before: usize,
    /// What is produced once the second shares the partitions with the first. There is no second where this is empty.
    pub(super) records: &'a [Record],
}

/// What each member of a group got.
#[derive(Debug, Deserialize)]
pub(super) struct Shared {
    /// In the order of arrival.
    pub(super) read: Vec<Vec<Received>>,
    /// Partitions at the end.
    pub(super) assigned: Vec<Vec<u32>>,
}

/// What not every client has.
#[derive(Debug, Clone, Copy)]
pub(super) struct Abilities {
    pub(super) codecs: &'static [&'static str],
    /// Sends to a partition that the caller names.
    pub(super) to_partition: bool,
    /// Reads several topics with one stand-alone consumer.
    pub(super) several_topics: bool,
    /// Whether a read of a topic takes seconds whatever it holds.
    pub(super) slow: bool,
    /// Group protocols and their assignors, by the client's own names.
    pub(super) groups: &'static [(&'static str, &'static str)],
}

/// All that Kafka has.
pub(super) const CODECS: &[&str] = &["none", "gzip", "snappy", "lz4", "zstd"];

pub(super) trait Client {
    fn abilities(&self) -> Abilities {
        Abilities { codecs: CODECS, to_partition: true, several_topics: true, slow: false, groups: &[] }
    }

    fn create(&mut self, topic: &str) -> Result<()>;

    /// Where each record went, or nothing where the client does not say.
    fn produce(&mut self, produce: &Produce<'_>) -> Result<Vec<Placed>>;

    /// Everything from there to the ends that the partitions have now, by partition in the order of arrival.
    fn read(&mut self, topics: &[&str], from: From) -> Result<Vec<Received>>;

    /// Reads a topic in a group, as `groups` says.
    fn group(&mut self, _group: &Group<'_>) -> Result<Shared> {
        bail!("it has no groups")
    }

    /// What this client alone can do, with a topic and all that it holds.
    fn own_steps(&mut self, _topic: &str, _all: &[Received], _report: &mut Report) {}
}

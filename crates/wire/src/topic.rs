//! What produce and fetch have in common: how a topic is named, and who leads a partition.

use std::fmt;

use kafka_wire_core::StrBytes;
use uuid::Uuid;

use crate::codec::{DecodeError, EncodeError, Reader, Writer};

/// The version from which both Produce and Fetch name topics by id (KIP-516).
const FIRST_BY_ID: i16 = 13;

/// A topic as the client named it. Its answer names it the same way.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum TopicRef {
    Name(StrBytes),
    Id(Uuid),
}

/// Who leads a partition, sent with NOT_LEADER_OR_FOLLOWER and FENCED_LEADER_EPOCH so that the client need not ask for
/// metadata (KIP-951).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderIdAndEpoch {
    pub leader_id: i32,
    pub leader_epoch: i32,
}

/// Where a leader of this response listens (KIP-951).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeEndpoint {
    pub node_id: i32,
    pub host: String,
    pub port: i32,
    pub rack: Option<String>,
}

impl TopicRef {
    /// Bytes of a topic's name at the least.
    pub(crate) const MIN_LEN: usize = 1;

    pub(crate) fn read(reader: &mut Reader, version: i16) -> Result<Self, DecodeError> {
        if version < FIRST_BY_ID {
            reader.string("topic name").map(Self::Name)
        } else {
            reader.uuid("topic id").map(Self::Id)
        }
    }

    pub(crate) fn write(&self, writer: &mut Writer, version: i16) {
        match self {
            Self::Name(name) if version < FIRST_BY_ID => writer.string(name, "topic name"),
            Self::Id(id) if version >= FIRST_BY_ID => writer.uuid(*id),
            Self::Name(_) => writer.fail(EncodeError::WrongTopicRef { got: "name", version }),
            Self::Id(_) => writer.fail(EncodeError::WrongTopicRef { got: "id", version }),
        }
    }
}

impl fmt::Display for TopicRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Name(name) => name.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl LeaderIdAndEpoch {
    pub(crate) fn write(self, writer: &mut Writer) {
        writer.i32(self.leader_id);
        writer.i32(self.leader_epoch);
        writer.no_tagged();
    }
}

impl NodeEndpoint {
    /// Endpoints are the tagged field 0 of both responses.
    pub(crate) fn write_all(endpoints: &[Self], writer: &mut Writer) {
        writer.vec(endpoints, "node endpoints", |writer, endpoint| {
            writer.i32(endpoint.node_id);
            writer.string(&endpoint.host, "host");
            writer.i32(endpoint.port);
            writer.nullable_string(endpoint.rack.as_deref(), "rack");
            writer.no_tagged();
        });
    }
}

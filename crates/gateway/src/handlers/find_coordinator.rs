//! FindCoordinator: of a group, the gateway that clients see as its coordinator.
//!
//! Nobody coordinates transactions yet. Their clients are told INVALID_REQUEST, on which producers give up and show the
//! message. Share groups have no coordinator in Kafka either unless they are turned on.

use tidemark_model::{ClusterState, route};
use tidemark_wire::NodeEndpoint;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::find_coordinator_response::Coordinator;
use tidemark_wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse, StrBytes, build};

use super::Call;
use crate::connection::Answer;
use crate::metadata;

/// Kinds of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
const SHARE: i8 = 2;
/// The first version that asks for several keys at once (KIP-699).
const FIRST_BATCHED: i16 = 4;
/// What Kafka says in place of a message where nothing failed, in the versions of one key.
const NO_ERROR: &str = "NONE";
/// No node.
const NOBODY: i32 = -1;

type Refused = (ErrorCode, &'static str);

pub(super) fn handle(call: &Call, request: &FindCoordinatorRequest) -> Answer {
    let state = call.gateway.cluster.current();
    call.reply(&build(|response: &mut FindCoordinatorResponse| {
        if call.version >= FIRST_BATCHED {
            let coordinators = request.coordinator_keys.iter().map(|key| {
                build(|coordinator: &mut Coordinator| {
                    coordinator.key = key.clone();
                    let (error, message, node) = told(call, find(&state, request.key_type, key), "");
                    (coordinator.error_code, coordinator.error_message) = (error, message);
                    (coordinator.node_id, coordinator.host, coordinator.port) = node;
                })
            });
            response.coordinators = coordinators.collect();
        } else {
            let (error, message, node) = told(call, find(&state, request.key_type, &request.key), NO_ERROR);
            (response.error_code, response.error_message) = (error, message);
            (response.node_id, response.host, response.port) = node;
        }
    }))
}

fn find(state: &ClusterState, key_type: i8, key: &str) -> Result<NodeEndpoint, Refused> {
    match key_type {
        GROUP => match route::gateway_for_group(state, key) {
            Some(gateway) => Ok(metadata::endpoint(gateway)),
            None => Err((ErrorCode::CoordinatorNotAvailable, "The coordinator is not available.")),
        },
        TRANSACTION => Err((ErrorCode::InvalidRequest, "transactions are not available yet")),
        SHARE => Err((ErrorCode::InvalidRequest, "share groups are not available")),
        _ => Err((ErrorCode::InvalidRequest, "unknown kind of coordinator")),
    }
}

fn told(
    call: &Call,
    found: Result<NodeEndpoint, Refused>,
    no_error: &'static str,
) -> (i16, Option<StrBytes>, (i32, StrBytes, i32)) {
    match found {
        Ok(NodeEndpoint { node_id, host, port, rack: _ }) => {
            (ErrorCode::None.code(), Some(no_error.into()), (node_id, host.into(), port))
        }
        Err((code, message)) => (call.failed(code), Some(message.into()), (NOBODY, StrBytes::default(), NOBODY)),
    }
}

//! FindCoordinator. Nobody coordinates groups or transactions yet, and clients are told so.
//!
//! For a group it is COORDINATOR_NOT_AVAILABLE, with a message: a consumer that assigns partitions itself goes on, and one
//! that wants a group waits, as it would in a Kafka that cannot create its offsets topic. For a transaction it is
//! INVALID_REQUEST, on which producers give up and show the message. Share groups have no coordinator in Kafka either
//! unless they are turned on.

use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::find_coordinator_response::Coordinator;
use tidemark_wire::messages::{FindCoordinatorRequest, FindCoordinatorResponse, StrBytes, build};

use super::Call;
use crate::connection::Answer;

/// Kinds of keys.
const GROUP: i8 = 0;
const TRANSACTION: i8 = 1;
/// The first version that asks for several keys at once (KIP-699).
const FIRST_BATCHED: i16 = 4;

pub(super) fn handle(call: &Call, request: &FindCoordinatorRequest) -> Answer {
    let (code, message) = match request.key_type {
        GROUP => (ErrorCode::CoordinatorNotAvailable, "consumer groups are not available yet"),
        TRANSACTION => (ErrorCode::InvalidRequest, "transactions are not available yet"),
        _ => (ErrorCode::InvalidRequest, "share groups are not available"),
    };
    call.reply(&build(|response: &mut FindCoordinatorResponse| {
        if call.version >= FIRST_BATCHED {
            let coordinators = request.coordinator_keys.iter().map(|key| {
                build(|coordinator: &mut Coordinator| {
                    coordinator.key = key.clone();
                    (coordinator.node_id, coordinator.port) = (-1, -1);
                    coordinator.error_code = call.failed(code);
                    coordinator.error_message = Some(StrBytes::from(message));
                })
            });
            response.coordinators = coordinators.collect();
        } else {
            (response.node_id, response.port) = (-1, -1);
            response.error_code = call.failed(code);
            response.error_message = Some(StrBytes::from(message));
        }
    }))
}

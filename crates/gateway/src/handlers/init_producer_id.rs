//! InitProducerId: ids for idempotent producers, from blocks that the coordinator hands out.
//!
//! There are no transactions yet. A producer with a transactional id is refused with INVALID_REQUEST: clients give up on
//! it and say so, where a code that speaks of authorization would mislead and a retriable one would let them wait for ever.

use std::ops::Range;

use tidemark_model::CoordinatorError;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::{InitProducerIdRequest, InitProducerIdResponse, build};
use tokio::sync::Mutex;

use super::{Call, control};
use crate::connection::Answer;
use crate::error;
use crate::service::Gateway;

/// Ids in a block, as in Kafka. A gateway that stops leaves the rest of its block unused.
const BLOCK: u32 = 1_000;

/// The block of ids of this gateway.
#[derive(Debug, Default)]
pub(crate) struct ProducerIds {
    // Held while a block is fetched, so that many producers that start at once fetch one.
    block: Mutex<Range<i64>>,
}

pub(super) async fn handle(call: Call, request: InitProducerIdRequest) -> Answer {
    let id = match &request.transactional_id {
        None => call.gateway.producer_ids.next(&call.gateway).await.map_err(|error| {
            tracing::warn!(%error, "no producer id could be allocated");
            match error {
                // What Kafka answers while it has no ids, and what clients retry.
                CoordinatorError::Unavailable(_) => ErrorCode::CoordinatorLoadInProgress,
                error => error::of_coordinator(&error),
            }
        }),
        Some(_) => Err(ErrorCode::InvalidRequest),
    };
    call.reply(&build(|response: &mut InitProducerIdResponse| match id {
        Ok(id) => {
            response.producer_id = id;
            response.producer_epoch = 0;
        }
        Err(code) => {
            response.error_code = call.failed(code);
            response.producer_id = -1;
            response.producer_epoch = -1;
        }
    }))
}

impl ProducerIds {
    async fn next(&self, gateway: &Gateway) -> Result<i64, CoordinatorError> {
        let mut block = self.block.lock().await;
        loop {
            if let Some(id) = block.next() {
                return Ok(id);
            }
            let coordinator = &gateway.coordinator;
            *block =
                control::retry(gateway, control::DEFAULT_TIMEOUT, || coordinator.allocate_producer_ids(BLOCK)).await?;
            if block.is_empty() {
                return Err(CoordinatorError::Unavailable("the coordinator handed out no ids".to_owned()));
            }
        }
    }
}

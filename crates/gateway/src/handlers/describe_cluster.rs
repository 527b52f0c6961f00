//! DescribeCluster (KIP-700).

use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::describe_cluster_response::DescribeClusterBroker;
use tidemark_wire::messages::{DescribeClusterRequest, DescribeClusterResponse, StrBytes, build};

use super::Call;
use super::metadata::CLUSTER_OPERATIONS;
use crate::connection::Answer;
use crate::metadata;

/// Endpoint types of KIP-919.
const BROKERS: i8 = 1;
const CONTROLLERS: i8 = 2;

pub(super) fn handle(call: &Call, request: &DescribeClusterRequest) -> Answer {
    let state = call.gateway.cluster.current();
    let refused = match request.endpoint_type {
        BROKERS => None,
        CONTROLLERS => Some((
            ErrorCode::MismatchedEndpointType,
            "The request was sent to an endpoint of type BROKER, but we wanted an endpoint of type CONTROLLER"
                .to_owned(),
        )),
        other => Some((ErrorCode::UnsupportedEndpointType, format!("Unsupported endpoint type {other}"))),
    };
    call.reply(&build(|response: &mut DescribeClusterResponse| {
        response.endpoint_type = request.endpoint_type;
        if let Some((code, message)) = refused {
            response.error_code = call.failed(code);
            response.error_message = Some(StrBytes::from(message));
            return;
        }
        response.cluster_id = StrBytes::from(state.cluster_id.as_str());
        response.controller_id = metadata::controller(&state);
        if request.include_cluster_authorized_operations {
            response.cluster_authorized_operations = CLUSTER_OPERATIONS;
        }
        // A gateway is in the cluster state only while it is alive: none is fenced.
        let brokers = metadata::endpoints(&state).map(|endpoint| {
            build(|broker: &mut DescribeClusterBroker| {
                broker.broker_id = endpoint.node_id;
                broker.host = StrBytes::from(endpoint.host);
                broker.port = endpoint.port;
                broker.rack = endpoint.rack.map(StrBytes::from);
            })
        });
        response.brokers = brokers.collect();
    }))
}

//! ApiVersions: what this gateway speaks (KIP-35, KIP-511).

use tidemark_wire::api;
use tidemark_wire::error::ErrorCode;
use tidemark_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, build, encode_response};

use super::Call;
use crate::connection::Answer;

/// The version that every client can read.
const FALLBACK_VERSION: i16 = 0;
/// The first version in which the client says what it is.
const FIRST_WITH_SOFTWARE: i16 = 3;

pub(super) fn handle(call: &Call, request: &ApiVersionsRequest) -> Answer {
    let (name, version) = (&request.client_software_name, &request.client_software_version);
    if call.version >= FIRST_WITH_SOFTWARE && !(is_software(name) && is_software(version)) {
        let error = call.failed(ErrorCode::InvalidRequest);
        return call.reply(&build(|response: &mut ApiVersionsResponse| response.error_code = error));
    }
    tracing::debug!(peer = %call.peer, software = %name, version = %version, "client");
    call.reply(&api::api_versions(call.version))
}

/// A version that does not exist is answered in version 0, with the versions that do (KIP-511).
pub(super) fn unsupported(call: Call) -> Answer {
    call.failed(ErrorCode::UnsupportedVersion);
    call.encoded(encode_response(call.correlation_id, FALLBACK_VERSION, &api::unsupported_version()))
}

/// Kafka's `[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?`.
fn is_software(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    let legal = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.');
    edge(bytes.first()) && edge(bytes.last()) && bytes.iter().all(legal)
}

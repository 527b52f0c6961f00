//! Every request in every version: bytes as they come, or a valid request with some of its bytes replaced.

#![no_main]

#[path = "../../crates/wire/tests/samples/mod.rs"]
mod samples;

use std::sync::LazyLock;

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemark_wire::api::ApiKey;
use tidemark_wire::request::Request;

static SAMPLES: LazyLock<Vec<(ApiKey, i16, Bytes)>> = LazyLock::new(samples::all);

fuzz_target!(|data: &[u8]| {
    let Some(([kind, how], data)) = data.split_first_chunk::<2>() else { return };
    let (key, version, sample) = &SAMPLES[usize::from(*kind) % SAMPLES.len()];
    let body = if how % 2 == 0 { Bytes::copy_from_slice(data) } else { replaced(sample, data) };
    let _ = Request::decode(*key, *version, body);
});

/// Pairs of a place and a value, the last of which ends the sample.
fn replaced(sample: &Bytes, data: &[u8]) -> Bytes {
    let mut body = sample.to_vec();
    for pair in data.chunks_exact(2) {
        let at = usize::from(pair[0]);
        match body.get_mut(at) {
            Some(byte) => *byte = pair[1],
            None => body.push(pair[1]),
        }
    }
    body.into()
}

//! A whole stream as a socket gives it: lengths, headers, bodies.

#![no_main]

use bytes::Bytes;
use libfuzzer_sys::fuzz_target;
use tidemark_wire::frame::{LENGTH_LEN, RequestHeader, frame_len};
use tidemark_wire::request::Request;

const MAX: usize = 1024 * 1024;

fuzz_target!(|data: &[u8]| {
    let mut stream = Bytes::copy_from_slice(data);
    while let Some(length) = stream.first_chunk::<LENGTH_LEN>() {
        let Ok(length) = frame_len(*length, MAX) else { return };
        let _ = stream.split_to(LENGTH_LEN);
        let frame = stream.split_to(length.min(stream.len()));
        let size = frame.len();
        let Ok((header, body)) = RequestHeader::split(frame) else { continue };
        assert!(body.len() < size);
        let _ = Request::decode(header.api_key, header.api_version, body);
    }
});

use bytes::BytesMut;
use kafka_wire::{OutboundFrameLimits, encode_request};
use kafka_wire_core::ApiVersion;
use proptest::prelude::*;

use super::*;
use crate::messages::{ApiVersionsRequest, MetadataRequest};

const MAX: usize = 100 * 1024 * 1024;

#[test]
fn lengths_that_are_no_request_are_refused() {
    assert_eq!(frame_len([0xff; 4], MAX), Err(FrameError::TooShort(-1)));
    assert_eq!(frame_len(*b"GET ", MAX), Err(FrameError::TooLong { length: 0x4745_5420, max: MAX }));
    assert_eq!(frame_len(7_i32.to_be_bytes(), MAX), Err(FrameError::TooShort(7)));
    assert_eq!(frame_len(8_i32.to_be_bytes(), MAX), Ok(8));
    assert_eq!(frame_len((MAX as i32).to_be_bytes(), MAX), Ok(MAX));
    assert_eq!(
        frame_len((MAX as i32 + 1).to_be_bytes(), MAX),
        Err(FrameError::TooLong { length: 104_857_601, max: MAX })
    );
}

#[test]
fn headers_of_both_versions_are_those_the_codec_library_writes() {
    for (version, client_id) in [(0, None), (8, Some("kcat")), (9, Some("kcat")), (13, None)] {
        let mut wire = BytesMut::new();
        let client = client_id.map(StrBytes::from);
        let limits = OutboundFrameLimits::new(MAX);
        let version = ApiVersion::new(version);
        let request = MetadataRequest::default();
        encode_request(&mut wire, 7, client.clone(), &request, version, limits).unwrap();
        let mut frame = wire.freeze();
        let length = frame_len(frame.split_to(LENGTH_LEN)[..].try_into().unwrap(), MAX).unwrap();
        assert_eq!(length, frame.len());
        let (header, body) = RequestHeader::split(frame).unwrap();
        let expected = RequestHeader {
            api_key: ApiKey::Metadata,
            api_version: version.value(),
            correlation_id: 7,
            client_id: client,
        };
        assert_eq!(header, expected);
        assert_eq!(crate::messages::decode::<MetadataRequest>(body, version.value()).unwrap(), request);
    }
}

#[test]
fn an_api_versions_request_of_the_future_can_be_answered() {
    let mut wire = BytesMut::new();
    let limits = OutboundFrameLimits::new(MAX);
    encode_request(&mut wire, 3, None, &ApiVersionsRequest::default(), ApiVersion::new(4), limits).unwrap();
    wire[6..8].copy_from_slice(&99_i16.to_be_bytes());
    let (header, _) = RequestHeader::split(wire.freeze().split_off(4)).unwrap();
    assert_eq!((header.api_version, header.correlation_id), (99, 3));
    assert_eq!(header.response_header_version(), 0);
}

#[test]
fn an_unknown_key_is_named() {
    let frame = Bytes::from_static(&[0x03, 0xe8, 0, 2, 0, 0, 0, 1, 0xff, 0xff]);
    assert_eq!(RequestHeader::split(frame), Err(FrameError::UnknownApi { api_key: 1000, api_version: 2 }));
}

proptest! {
    #[test]
    fn a_frame_gives_its_bytes_in_order_however_it_is_advanced(
        chunks in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..40), 0..8),
        steps in proptest::collection::vec(1_usize..30, 0..30),
    ) {
        let mut frame = ResponseFrame::default();
        chunks.iter().for_each(|chunk| frame.push(Bytes::from(chunk.clone())));
        let all = chunks.concat();
        let mut at = 0;
        for step in steps {
            let mut slices = [IoSlice::new(&[]); 4];
            let filled = frame.chunks_vectored(&mut slices);
            let seen = slices[..filled].iter().flat_map(|slice| slice.to_vec()).collect::<Vec<_>>();
            prop_assert!(all[at..].starts_with(&seen));
            prop_assert_eq!(seen.is_empty(), at == all.len());
            let step = step.min(frame.remaining());
            frame.advance(step);
            at += step;
        }
        prop_assert_eq!(frame.into_chunks().flatten().collect::<Vec<_>>(), &all[at..]);
    }

    #[test]
    fn no_bytes_make_a_header_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
        let _ = RequestHeader::split(Bytes::from(bytes));
    }
}

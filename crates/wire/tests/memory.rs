//! No bytes that a client can send make decoding panic, abort, or take more than a small multiple of their length.
//!
//! The allocator counts what the test's own thread has taken, so that the tests of this file can run beside each other.

// A counting allocator cannot be written otherwise. It only counts and calls the system's.
#![allow(unsafe_code)]

mod samples;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use bytes::Bytes;
use proptest::prelude::*;
use tidemark_model::Batch;
use tidemark_wire::api::{APIS, ApiKey};
use tidemark_wire::batch::{self, BatchBuilder, BatchRules};
use tidemark_wire::frame::RequestHeader;
use tidemark_wire::messages::MAX_GROWTH;
use tidemark_wire::request::Request;

/// Allowed beside the multiple of the length, for error messages and for the first elements of vectors.
const SLACK: usize = 4096;
const MIB: usize = 1024 * 1024;

struct Counting;

thread_local! {
    static TAKEN: Cell<usize> = const { Cell::new(0) };
    static PEAK: Cell<usize> = const { Cell::new(0) };
}

fn took(bytes: usize) {
    let taken = TAKEN.get().wrapping_add(bytes);
    TAKEN.set(taken);
    PEAK.set(PEAK.get().max(taken));
}

// SAFETY: every call goes to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        took(layout.size());
        // SAFETY: the caller's promise.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, at: *mut u8, layout: Layout) {
        TAKEN.set(TAKEN.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.dealloc(at, layout) }
    }

    unsafe fn realloc(&self, at: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // While it moves, both are there.
        took(size);
        TAKEN.set(TAKEN.get().wrapping_sub(layout.size()));
        // SAFETY: the caller's promise.
        unsafe { System.realloc(at, layout, size) }
    }
}

#[global_allocator]
static COUNTING: Counting = Counting;

/// The most that `run` held at one time beyond what was there before.
fn peak<T>(run: impl FnOnce() -> T) -> usize {
    let before = TAKEN.replace(MIB);
    PEAK.set(MIB);
    drop(run());
    let peak = PEAK.get() - MIB;
    TAKEN.set(TAKEN.get().wrapping_sub(MIB).wrapping_add(before));
    peak
}

#[track_caller]
fn decode_is_bounded(key: ApiKey, version: i16, body: Bytes) -> usize {
    let length = body.len();
    let peak = peak(|| Request::decode(key, version, body));
    assert!(peak <= MAX_GROWTH * length + SLACK, "{key} {version}: {length} bytes took {peak}");
    peak
}

fn kinds() -> impl Strategy<Value = (ApiKey, i16)> {
    let kinds = APIS.iter().flat_map(|api| (api.spoken.min..=api.spoken.max).map(|version| (api.key, version)));
    proptest::sample::select(kinds.collect::<Vec<_>>())
}

fn size() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..200_usize, 3 => 0..20_000_usize, 1 => Just(MIB)]
}

/// A head of numbers that lengths and counts are made of, then a small pattern as often as fits: arrays of very many
/// very small elements.
fn repetitive() -> impl Strategy<Value = Vec<u8>> {
    let byte = prop_oneof![Just(0_u8), Just(1), Just(2), Just(3), Just(0x7f), Just(0x80), Just(0xff), any::<u8>()];
    let head = proptest::collection::vec(byte.clone(), 0..24);
    let pattern = proptest::collection::vec(byte, 1..9);
    (head, pattern, size()).prop_map(|(mut head, pattern, size)| {
        let missing = size.saturating_sub(head.len());
        head.extend(pattern.iter().cycle().take(missing));
        head
    })
}

#[test]
fn the_counter_counts() {
    assert_eq!(peak(|| Vec::<u8>::with_capacity(MIB)), MIB);
    assert_eq!(peak(|| drop(Vec::<u8>::with_capacity(MIB))), MIB);
    assert_eq!(peak(|| ()), 0);
}

#[test]
fn every_sample_is_decoded() {
    for (key, version, body) in samples::all() {
        Request::decode(key, version, body).unwrap_or_else(|error| panic!("{key} {version}: {error}"));
    }
}

/// The 4 bytes that make a decoder which trusts counts reserve hundreds of gigabytes.
#[test]
fn no_count_is_trusted() {
    for (key, version, sample) in samples::all() {
        for at in 0..=sample.len().saturating_sub(4) {
            for count in [[0x7f, 0xff, 0xff, 0xff], [0xff, 0xff, 0xff, 0x7f], [0x80, 0, 0, 0], [0xff; 4]] {
                let mut body = sample.to_vec();
                body.splice(at..(at + 4).min(sample.len()), count);
                decode_is_bounded(key, version, body.into());
            }
        }
    }
}

/// The worst there is: after the counts, the smallest elements as often as fits.
#[test]
fn the_smallest_elements_stay_within_the_growth_that_is_promised() {
    // The longer ones are structures with one small structure in each array, and with unknown tagged fields.
    let patterns: [&[u8]; 10] = [
        &[0],
        &[1],
        &[1, 0],
        &[2, 0],
        &[1, 1, 0],
        &[1, 1, 2, 1, 0],
        &[1, 1, 1, 9, 0],
        &[0, 0, 0, 1, 0, 0],
        &[1, 1, 2, 1, 1, 1, 0, 0],
        &[1, 1, 2, 1, 1, 1, 1, 9, 0, 1, 9, 0],
    ];
    for (key, version, sample) in samples::all() {
        for at in 0..sample.len() {
            for pattern in patterns {
                // 500 as a count of 32 bits, and as a compact one.
                for count in [&[0, 0, 0x01, 0xf4][..], &[0xf5, 0x03]] {
                    let mut body = sample[..at].to_vec();
                    body.extend(count);
                    body.extend(pattern.iter().cycle().take(500 * pattern.len()));
                    decode_is_bounded(key, version, body.into());
                }
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn random_bytes(kind in kinds(), body in proptest::collection::vec(any::<u8>(), 0..2000)) {
        decode_is_bounded(kind.0, kind.1, body.into());
    }

    #[test]
    fn repetitive_bytes(kind in kinds(), body in repetitive()) {
        decode_is_bounded(kind.0, kind.1, body.into());
    }

    #[test]
    fn mutations_of_valid_requests(
        (key, version, sample) in proptest::sample::select(samples::all()),
        changes in proptest::collection::vec(any::<(prop::sample::Index, u8)>(), 1..8),
        cut in any::<Option<prop::sample::Index>>(),
        tail in repetitive(),
    ) {
        let mut body = sample.to_vec();
        for (at, value) in changes {
            if !body.is_empty() {
                let at = at.index(body.len());
                body[at] = value;
            }
        }
        if let Some(cut) = cut {
            body.truncate(cut.index(sample.len() + 1));
            body.extend(tail);
        }
        decode_is_bounded(key, version, body.into());
    }

    #[test]
    fn frames(frame in repetitive()) {
        let length = frame.len();
        let frame = Bytes::from(frame);
        let peak = peak(|| RequestHeader::split(frame).map(|(header, body)| {
            Request::decode(header.api_key, header.api_version, body)
        }));
        prop_assert!(peak <= MAX_GROWTH * length + SLACK, "{} bytes took {}", length, peak);
    }

    #[test]
    fn batches(records in repetitive(), valid: bool) {
        let wire = if valid { BatchBuilder::new().record(None, Some(&records)).wire() } else { Bytes::from(records) };
        let rules = BatchRules {
            max_message_bytes: 2 * MIB,
            now_ms: 0,
            log_append_time: false,
            timestamp_before_max_ms: i64::MAX,
            timestamp_after_max_ms: i64::MAX,
        };
        let length = wire.len();
        let judged = peak(|| batch::validate(wire.clone(), &rules));
        prop_assert!(judged <= SLACK, "{} bytes took {}", length, judged);
        for batch in Batch::split_all(wire).unwrap_or_default() {
            let read = peak(|| batch::records(&batch).for_each(drop));
            prop_assert!(read <= MAX_GROWTH * length + SLACK, "{} bytes took {}", length, read);
        }
    }
}

//! What is not Kafka, or not of this version: the connection is closed, and only that one.

use std::time::Duration;

use bytes::BufMut as _;
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;
use tidemark_wire::api::{APIS, ApiKey};
use tidemark_wire::messages::{ApiVersionsRequest, ApiVersionsResponse, build, decode, encode};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::kit::{Client, Fixture, Put, Shape, batch};

/// The gateway still serves whoever behaves.
async fn still_serves(fixture: &Fixture) {
    let mut client = fixture.client().await;
    let answer: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default()).await;
    assert_eq!(answer.api_keys.len(), APIS.len());
}

#[tokio::test]
async fn frames_that_are_none_close_the_connection() {
    let fixture = Fixture::start(Shape::default()).await;
    let frames: [&[u8]; 6] = [
        b"GET / HTTP/1.1\r\n\r\n",
        &[0x16, 0x03, 0x01, 0x02, 0x00, 0x01],
        &[0xff, 0xff, 0xff, 0xff],
        &[0, 0, 0, 0],
        &[0, 0, 0, 3, 1, 2, 3],
        &[0x00, 0x10, 0x00, 0x01, 0],
    ];
    for frame in frames {
        let mut client = fixture.client().await;
        client.stream.write_all(frame).await.unwrap();
        assert!(client.receive().await.is_none(), "{frame:?}");
    }
    still_serves(&fixture).await;
}

#[tokio::test]
async fn a_truncated_frame_is_given_up_when_the_client_goes() {
    let fixture = Fixture::start(Shape::default()).await;
    let mut client = fixture.client().await;
    client.stream.write_all(&[0, 0, 1, 0, 0, 18, 0, 0]).await.unwrap();
    client.stream.shutdown().await.unwrap();
    assert!(client.receive().await.is_none());
    still_serves(&fixture).await;
}

#[tokio::test]
async fn an_unknown_key_and_an_unsupported_version_close_the_connection_as_kafka_does() {
    let fixture = Fixture::start(Shape::default()).await;
    for (key, version) in [(999, 0), (-1, 0), (4, 0), (17, 1), (0, 2), (1, 3), (1, 19), (3, 14)] {
        let mut client = fixture.client().await;
        client.send_as(key, version, false, &[]).await;
        assert!(client.receive().await.is_none(), "key {key} version {version}");
    }
    still_serves(&fixture).await;
}

#[tokio::test]
async fn a_newer_api_versions_is_answered_in_version_0_with_what_there_is() {
    let fixture = Fixture::start(Shape::default()).await;
    for version in [5, 99, -1] {
        let mut client = fixture.client().await;
        let id = client.send_as(ApiKey::ApiVersions.code(), version, version > 0, b"what nobody knows yet").await;
        let body = client.answer(id, ApiKey::ApiVersions, 0).await;
        let answer: ApiVersionsResponse = decode(body, 0).unwrap();
        assert_eq!(answer.error_code, 35);
        let [entry] = &answer.api_keys[..] else { panic!("{answer:?}") };
        assert_eq!((entry.api_key, entry.min_version, entry.max_version), (18, 0, 4));
        // The client asks again on the same connection.
        let again: ApiVersionsResponse = client.call(0, &ApiVersionsRequest::default()).await;
        assert_eq!(again.error_code, 0);
    }
}

#[tokio::test]
async fn a_client_says_its_software_in_legal_letters_or_is_refused() {
    let fixture = Fixture::start(Shape::default()).await;
    let mut client = fixture.client().await;
    for (name, error) in [("librdkafka", 0), ("a", 0), ("apache-kafka.java", 0), ("", 42), ("-x", 42), ("a b", 42)] {
        let request = build(|request: &mut ApiVersionsRequest| {
            request.client_software_name = name.into();
            request.client_software_version = "1.0.0".into();
        });
        let answer: ApiVersionsResponse = client.call(3, &request).await;
        assert_eq!(answer.error_code, error, "{name}");
    }
}

#[tokio::test]
async fn a_malformed_body_closes_the_connection_after_what_was_asked_before() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let bodies = [(ApiKey::Produce, 8), (ApiKey::Fetch, 11), (ApiKey::Metadata, 9), (ApiKey::CreateTopics, 5)];
    for (api, version) in bodies {
        let mut client = fixture.client().await;
        let before = client.send_produce(8, 1, "t", &[(0, batch("a"))]).await;
        client.send(api, version, &[0x7f; 3]).await;
        assert_eq!(client.produce_answer(before, 8).await[0].error, 0);
        assert!(client.receive().await.is_none(), "{api}");
    }
    still_serves(&fixture).await;
}

#[tokio::test]
async fn connections_over_the_limit_are_refused_until_one_ends() {
    let mut shape = Shape::default();
    shape.settings.max_connections = 1;
    let fixture = Fixture::start(shape).await;
    let mut first = fixture.client().await;
    let request = ApiVersionsRequest::default();
    let _: ApiVersionsResponse = first.call(0, &request).await;
    assert!(fixture.client().await.receive().await.is_none());
    drop(first);
    // The place is free once the gateway has seen that the first is gone.
    loop {
        let mut client = fixture.client().await;
        let id = 101;
        let mut frame = Put::new(false);
        frame.out.put_slice(&[0, 0, 0, 10, 0, 18, 0, 0, 0, 0, 0, 101, 0xff, 0xff]);
        if client.stream.write_all(&frame.out).await.is_ok()
            && let Some((correlation_id, _)) = client.receive().await
        {
            assert_eq!(correlation_id, id);
            break;
        }
    }
}

/// Random bodies under every header: an answer or the end of the connection, in any case within the time limit.
#[tokio::test]
async fn random_requests_are_answered_or_end_their_connection() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut runner = TestRunner::deterministic();
    let bodies = proptest::collection::vec(any::<u8>(), 0..200);
    for api in APIS {
        for version in [api.spoken.min, api.spoken.max] {
            for _ in 0..20 {
                let body = bodies.new_tree(&mut runner).unwrap().current();
                let mut client = fixture.client().await;
                client.send(api.key, version, &body).await;
                client.stream.shutdown().await.unwrap();
                let mut rest = Vec::new();
                let read = client.stream.read_to_end(&mut rest);
                let ended = tokio::time::timeout(Duration::from_secs(30), read).await;
                assert!(ended.is_ok(), "{} version {version} hangs on {body:?}", api.key);
            }
        }
    }
    still_serves(&fixture).await;
}

#[tokio::test]
async fn a_frame_of_the_largest_size_is_taken() {
    let fixture = Fixture::start(Shape::default()).await;
    fixture.topic("t", 1);
    let mut client: Client = fixture.client().await;
    let value = "x".repeat((1 << 20) - 200);
    let answer = client.produce(8, "t", &[(0, batch(&value))]).await;
    assert_eq!(answer[0].error, 0);
    let _: ApiVersionsResponse = {
        let body = encode(&ApiVersionsRequest::default(), 0).unwrap();
        let id = client.send(ApiKey::ApiVersions, 0, &body).await;
        decode(client.answer(id, ApiKey::ApiVersions, 0).await, 0).unwrap()
    };
}

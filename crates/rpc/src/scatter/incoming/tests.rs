use futures::FutureExt as _;
use http_body::Frame;
use proptest::prelude::*;

use super::*;
use crate::proto as wire;

type Piece = Result<Frame<Bytes>, Status>;

/// A body of these frames.
struct Frames(VecDeque<Piece>);

impl http_body::Body for Frames {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, _cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        Poll::Ready(self.0.pop_front())
    }
}

fn body(frames: impl IntoIterator<Item = Piece>) -> Body {
    Body::new(Frames(frames.into_iter().collect()))
}

fn data(bytes: impl Into<Bytes>) -> Piece {
    Ok(Frame::data(bytes.into()))
}

fn trailers(status: &Status) -> Piece {
    let mut trailers = HeaderMap::new();
    status.add_header(&mut trailers).unwrap();
    Ok(Frame::trailers(trailers))
}

fn message(sizes: &[usize]) -> wire::ProduceRequests {
    let partition = |size: &usize| wire::ProducePartition { partition: None, records: vec![7; *size].into() };
    let request = |size| wire::ProduceRequest { partitions: vec![partition(size)], ..Default::default() };
    wire::ProduceRequests { first_sequence: sizes.len() as u64, requests: sizes.iter().map(request).collect() }
}

fn encoded(message: &wire::ProduceRequests) -> Vec<u8> {
    let mut bytes = vec![0];
    bytes.extend((message.encoded_len() as u32).to_be_bytes());
    message.encode(&mut bytes).unwrap();
    bytes
}

/// All that comes until the end, and how that is.
async fn all(body: Body) -> (Vec<wire::ProduceRequests>, Result<(), Status>) {
    let mut incoming = Incoming::answer(body);
    let mut messages = Vec::new();
    loop {
        match incoming.message().await {
            Ok(Some(message)) => messages.push(message),
            Ok(None) => return (messages, Ok(())),
            Err(status) => {
                assert!(incoming.message().await.unwrap().is_none(), "after an error there is nothing more");
                return (messages, Err(status));
            }
        }
    }
}

proptest! {
    #[test]
    fn messages_come_as_they_were_sent_however_they_are_cut(
        sizes in proptest::collection::vec(proptest::collection::vec(0..300_usize, 0..4), 0..4),
        cuts in proptest::collection::vec(0..1_000_usize, 0..10),
    ) {
        let sent: Vec<_> = sizes.iter().map(|sizes| message(sizes)).collect();
        let mut rest = Bytes::from(sent.iter().flat_map(encoded).collect::<Vec<u8>>());
        let mut frames = Vec::new();
        for cut in cuts {
            frames.push(data(rest.split_to(cut.min(rest.len()))));
        }
        frames.push(data(rest));
        let received = all(body(frames)).now_or_never().unwrap();
        prop_assert_eq!(received.0, sent);
        prop_assert!(received.1.is_ok());
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100), cut in 0..100_usize) {
        let mut first = Bytes::from(bytes);
        let second = first.split_off(cut.min(first.len()));
        let _ = all(body([data(first), data(second)])).now_or_never().unwrap();
    }
}

#[tokio::test]
async fn a_payload_within_a_frame_is_not_copied() {
    let bytes = Bytes::from(encoded(&message(&[1_000, 2_000])));
    let (first, second) = (bytes.slice(..1_500), bytes.slice(1_500..));
    let received = all(body([data(first), data(second)])).await.0.remove(0);
    let records = |at: usize| received.requests[at].partitions[0].records.as_ptr();
    assert!(bytes.as_ptr_range().contains(&records(0)));
    assert!(!bytes.as_ptr_range().contains(&records(1)), "what is cut through has to be put together");
}

#[tokio::test]
async fn an_answer_ends_as_its_trailers_say() {
    let sent = message(&[1]);
    let ended = all(body([data(encoded(&sent)), trailers(&Status::ok(""))])).await;
    assert!(ended.0 == [sent.clone()] && ended.1.is_ok());
    let refused = all(body([data(encoded(&sent)), trailers(&Status::aborted("why"))])).await;
    assert_eq!((refused.0.len(), refused.1.unwrap_err().code()), (1, Code::Aborted));
}

#[tokio::test]
async fn half_a_message_is_an_error() {
    let bytes = encoded(&message(&[10]));
    for length in [1, PREFIX, bytes.len() - 1] {
        let (messages, end) = all(body([data(bytes[..length].to_vec())])).await;
        assert!(messages.is_empty() && end.unwrap_err().code() == Code::Internal, "{length} bytes");
    }
}

#[tokio::test]
async fn what_is_too_large_or_compressed_is_refused_before_it_comes() {
    let head = |flag: u8, length: usize| [&[flag][..], &(length as u32).to_be_bytes()].concat();
    let refused = async |head: Vec<u8>| all(body([data(head)])).await.1.unwrap_err().code();
    assert_eq!(refused(head(0, MAX_MESSAGE + 1)).await, Code::OutOfRange);
    assert_eq!(refused(head(1, 5)).await, Code::Unimplemented);
}

#[tokio::test]
async fn a_caller_that_goes_away_ends_its_request_and_a_peer_breaks_its_answer() {
    let frames = || [data(encoded(&message(&[1]))), Err(Status::cancelled("gone"))];
    let mut request = Incoming::<wire::ProduceRequests>::request(body(frames()));
    assert!(request.message().await.unwrap().is_some());
    assert!(request.message().await.unwrap().is_none());
    assert_eq!(all(body(frames())).await.1.unwrap_err().code(), Code::Cancelled);
}

//! A stream of messages as the body of a request or an answer.

use std::collections::VecDeque;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use futures::Stream;
use http::HeaderMap;
use http_body::{Body, Frame};
use prost::Message;
use tonic::Status;

use super::pieces::encode;

pub(super) struct Messages<S> {
    messages: S,
    pieces: VecDeque<Bytes>,
    end: End,
}

/// How the body ends.
enum End {
    /// A request's: it just does, and is reset on an error.
    Request,
    /// An answer's: by a status in the trailers.
    Answer,
    Ended,
}

impl<S> Messages<S> {
    pub(super) fn request(messages: S) -> Self {
        Self { messages, pieces: VecDeque::new(), end: End::Request }
    }

    pub(super) fn answer(messages: S) -> Self {
        Self { messages, pieces: VecDeque::new(), end: End::Answer }
    }

    fn end(&mut self, status: Status) -> Option<Result<Frame<Bytes>, Status>> {
        match std::mem::replace(&mut self.end, End::Ended) {
            End::Request if status.code() == tonic::Code::Ok => None,
            End::Request => Some(Err(status)),
            End::Answer => {
                let mut trailers = HeaderMap::new();
                Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers)))
            }
            End::Ended => None,
        }
    }
}

impl<S, M> Body for Messages<S>
where
    S: Stream<Item = Result<M, Status>> + Unpin,
    M: Message,
{
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        loop {
            if let Some(piece) = self.pieces.pop_front() {
                return Poll::Ready(Some(Ok(Frame::data(piece))));
            }
            if matches!(self.end, End::Ended) {
                return Poll::Ready(None);
            }
            let encoded = match ready!(Pin::new(&mut self.messages).poll_next(cx)) {
                Some(message) => message.and_then(|message| encode(&message)),
                None => Err(Status::ok("")),
            };
            match encoded {
                Ok(pieces) => self.pieces = pieces,
                Err(status) => return Poll::Ready(self.end(status)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;
    use crate::proto as wire;

    async fn next<B: Body + Unpin>(body: &mut B) -> Option<Result<Frame<B::Data>, B::Error>> {
        std::future::poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx)).await
    }

    fn message() -> Result<wire::LeaveResponse, Status> {
        Ok(wire::LeaveResponse::default())
    }

    #[tokio::test]
    async fn a_request_ends_and_an_answer_says_how() {
        let mut body = Messages::request(stream::iter([message()]));
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_data().unwrap(), [0; 5][..]);
        assert!(next(&mut body).await.is_none());

        let mut body = Messages::answer(stream::iter([message()]));
        assert!(next(&mut body).await.unwrap().unwrap().is_data());
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "0");
        assert!(next(&mut body).await.is_none());
    }

    #[tokio::test]
    async fn an_error_resets_a_request_and_is_told_by_an_answer() {
        let failed = || stream::iter([message(), Err(Status::aborted("why")), message()]);
        let mut body = Messages::request(failed());
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(next(&mut body).await.unwrap().unwrap_err().code(), tonic::Code::Aborted);
        assert!(next(&mut body).await.is_none());

        let mut body = Messages::answer(failed());
        assert!(next(&mut body).await.unwrap().is_ok());
        assert_eq!(next(&mut body).await.unwrap().unwrap().into_trailers().unwrap()["grpc-status"], "10");
        assert!(next(&mut body).await.is_none());
    }
}

//! What is ready together goes together.

use std::pin::Pin;
use std::task::{Context, Poll};

use futures::stream::{Fuse, FusedStream as _, Stream, StreamExt as _};
use prost::Message;

use crate::limits::{COALESCED_BYTES, COALESCED_ITEMS};

/// Yields lists of what the inner stream has ready, about [`COALESCED_BYTES`] each, and never waits for more.
pub(crate) struct Coalesce<S> {
    inner: Fuse<S>,
}

pub(crate) fn coalesce<S>(inner: S) -> Coalesce<S>
where
    S: Stream + Unpin,
    S::Item: Message,
{
    Coalesce { inner: inner.fuse() }
}

impl<S> Stream for Coalesce<S>
where
    S: Stream + Unpin,
    S::Item: Message,
{
    type Item = Vec<S::Item>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        let mut items = Vec::new();
        let mut bytes = 0;
        while bytes < COALESCED_BYTES && items.len() < COALESCED_ITEMS {
            match self.inner.poll_next_unpin(cx) {
                Poll::Ready(Some(item)) => {
                    bytes += item.encoded_len();
                    items.push(item);
                }
                Poll::Ready(None) | Poll::Pending => break,
            }
        }
        if !items.is_empty() {
            Poll::Ready(Some(items))
        } else if self.inner.is_terminated() {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use futures::stream;

    use super::*;

    #[tokio::test]
    async fn what_is_ready_goes_together_up_to_the_bound_and_nothing_is_lost() {
        let (sender, receiver) = tokio::sync::mpsc::unbounded_channel::<Vec<u8>>();
        let source =
            stream::unfold(receiver, |mut receiver| async move { receiver.recv().await.map(|i| (i, receiver)) });
        let mut lists = coalesce(source.boxed());
        for _ in 0..3 {
            sender.send(vec![1; COALESCED_BYTES / 2]).unwrap();
        }
        assert_eq!(lists.next().await.unwrap().len(), 2);
        assert_eq!(lists.next().await.unwrap().len(), 1);
        sender.send(vec![2]).unwrap();
        drop(sender);
        assert_eq!(lists.next().await, Some(vec![vec![2]]));
        assert_eq!(lists.next().await, None);
    }
}

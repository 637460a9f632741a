//! Bodies of requests: kept for another try if that costs nothing.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use http_body::{Body as _, Frame};
use http_body_util::Full;
use tonic::Status;
use tonic::body::Body;

/// The largest body that is kept.
const KEPT_BYTES_MAX: usize = 1024 * 1024;

/// The body of a request.
pub(super) enum Kept {
    /// All of it, as of every call that sends one message.
    Whole(Bytes),
    /// A stream, until it was sent.
    Stream(Option<Body>),
}

impl Kept {
    /// Looks whether all of `body` is there already. Waits for nothing.
    pub(super) async fn of(mut body: Body) -> Kept {
        let mut ahead: VecDeque<Result<Frame<Bytes>, Status>> = VecDeque::new();
        let ended = poll_fn(|cx| {
            while ahead.len() < 2 {
                match Pin::new(&mut body).poll_frame(cx) {
                    Poll::Ready(Some(frame)) => ahead.push_back(frame),
                    Poll::Ready(None) => return Poll::Ready(true),
                    Poll::Pending => return Poll::Ready(false),
                }
            }
            Poll::Ready(false)
        })
        .await;
        if ended && ahead.is_empty() {
            return Kept::Whole(Bytes::new());
        }
        if let (true, Some(Ok(frame))) = (ended, ahead.front())
            && let Some(bytes) = frame.data_ref().filter(|bytes| bytes.len() <= KEPT_BYTES_MAX)
            && ahead.len() == 1
        {
            return Kept::Whole(bytes.clone());
        }
        Kept::Stream(Some(Body::new(Resumed { ahead, rest: body })))
    }

    /// The body, to be sent.
    pub(super) fn take(&mut self) -> Body {
        match self {
            Kept::Whole(bytes) => Body::new(Full::new(bytes.clone())),
            Kept::Stream(body) => body.take().unwrap_or_default(),
        }
    }

    /// Whether it can be sent, once more or at all.
    pub(super) fn is_there(&self) -> bool {
        match self {
            Kept::Whole(_) => true,
            Kept::Stream(body) => body.is_some(),
        }
    }
}

/// A stream of which some frames were looked at.
struct Resumed {
    ahead: VecDeque<Result<Frame<Bytes>, Status>>,
    rest: Body,
}

impl http_body::Body for Resumed {
    type Data = Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Status>>> {
        match self.ahead.pop_front() {
            Some(frame) => Poll::Ready(Some(frame)),
            None => Pin::new(&mut self.rest).poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        self.ahead.is_empty() && self.rest.is_end_stream()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::stream::{self, StreamExt as _, TryStreamExt as _};
    use http_body_util::{BodyExt, StreamBody};

    use super::*;

    async fn all(body: Body) -> String {
        String::from_utf8(body.collect().await.unwrap().to_bytes().to_vec()).unwrap()
    }

    #[tokio::test]
    async fn one_message_can_be_sent_again_and_a_stream_only_once() {
        let mut kept = Kept::of(Body::new(Full::new(Bytes::from("one")))).await;
        for _ in 0..2 {
            assert!(kept.is_there());
            assert_eq!(all(kept.take()).await, "one");
        }
        // The second piece is there only later.
        let (tell, told) = tokio::sync::oneshot::channel();
        let frame = |text: &'static str| Ok::<_, Status>(Frame::data(Bytes::from(text)));
        let later = stream::once(async move { told.await.map_err(|_| Status::internal("gone")) }).map_ok(Frame::data);
        let pieces = stream::iter([frame("one")]).chain(later);
        let mut kept = Kept::of(Body::new(StreamBody::new(pieces))).await;
        tell.send(Bytes::from("two")).unwrap();
        assert!(kept.is_there());
        assert_eq!(all(kept.take()).await, "onetwo");
        assert!(!kept.is_there());
    }
}

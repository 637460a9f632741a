//! A body that holds something until it has ended.

use std::pin::Pin;
use std::task::{Context, Poll};

use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;

/// `body`, which drops `guard` when its last frame has gone, or when nobody wants it any more: a call is under way until
/// then, and not only until its head has been answered.
pub fn hold_until_end(body: Body, guard: impl Send + Unpin + 'static) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return body;
    }
    Body::new(Held { body, guard: Some(guard) })
}

struct Held<G> {
    body: Body,
    guard: Option<G>,
}

impl<G: Unpin> http_body::Body for Held<G> {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let polled = Pin::new(&mut self.body).poll_frame(cx);
        let ended = matches!(polled, Poll::Ready(None | Some(Err(_))));
        if ended || (polled.is_ready() && self.body.is_end_stream()) {
            self.guard = None;
        }
        polled
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

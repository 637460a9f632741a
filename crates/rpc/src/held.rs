//! Bodies whose end is more than the end of their bytes.

use std::pin::Pin;
use std::task::{Context, Poll};

use http::HeaderMap;
use http_body::{Frame, SizeHint};
use tonic::Status;
use tonic::body::Body;
use world::BoxFuture;

/// `body`, which drops `guard` when its last frame has gone, or when nobody wants it any more: a call is under way until
/// then, and not only until its head has been answered.
pub fn hold_until_end(body: Body, guard: impl Send + Unpin + 'static) -> Body {
    if http_body::Body::is_end_stream(&body) {
        return body;
    }
    Body::new(Held { body, guard: Some(guard) })
}

/// `body`, which ends with the status that `end` comes to, if it has not ended before.
pub(crate) fn end_with(body: Body, end: BoxFuture<'static, Status>) -> Body {
    Body::new(Ending { body: Some(body), end })
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

struct Ending {
    body: Option<Body>,
    end: BoxFuture<'static, Status>,
}

impl http_body::Body for Ending {
    type Data = bytes::Bytes;
    type Error = Status;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Status>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        if let Poll::Ready(frame) = Pin::new(body).poll_frame(cx) {
            return Poll::Ready(frame);
        }
        match self.end.as_mut().poll(cx) {
            Poll::Ready(status) => {
                // What feeds the body is told by its end.
                self.body = None;
                let mut trailers = HeaderMap::new();
                Poll::Ready(Some(status.add_header(&mut trailers).map(|()| Frame::trailers(trailers))))
            }
            Poll::Pending => Poll::Pending,
        }
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(http_body::Body::is_end_stream)
    }
}

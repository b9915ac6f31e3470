//! Bodies of requests, read within limits: on the bytes of one, on those of all, and on time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Frame, SizeHint};
use tokio::time::{Sleep, sleep};

use crate::refusal::Refusal;

/// The memory that the bodies of all requests share.
#[derive(Debug)]
pub(crate) struct Budget {
    left: AtomicUsize,
}

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }
}

/// What one request has taken of it, until it is dropped.
#[derive(Debug)]
pub(crate) struct Lease {
    budget: Arc<Budget>,
    taken: AtomicUsize,
}

impl Lease {
    pub fn of(budget: &Arc<Budget>) -> Arc<Self> {
        Arc::new(Self { budget: budget.clone(), taken: AtomicUsize::new(0) })
    }

    /// Takes so many bytes more, if they are there.
    fn take(&self, bytes: usize) -> bool {
        let enough = |left: usize| left.checked_sub(bytes);
        let taken = self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, enough).is_ok();
        if taken {
            self.taken.fetch_add(bytes, Ordering::Relaxed);
        }
        taken
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        self.budget.left.fetch_add(*self.taken.get_mut(), Ordering::Relaxed);
    }
}

/// A body within limits.
pub(crate) struct Guarded<B> {
    body: B,
    lease: Arc<Lease>,
    left: usize,
    limit: usize,
    late: Pin<Box<Sleep>>,
}

impl<B: Body<Data = Bytes> + Unpin> Guarded<B> {
    /// `body`, of at most `limit` bytes, which has to arrive within `time`.
    ///
    /// # Errors
    ///
    /// [`Refusal::TooLarge`] where it says that it is larger.
    pub fn new(body: B, lease: Arc<Lease>, limit: usize, time: Duration) -> Result<Self, Refusal> {
        if body.size_hint().lower() > limit as u64 {
            return Err(Refusal::TooLarge { limit, what: "bytes" });
        }
        Ok(Self { body, lease, left: limit, limit, late: Box::pin(sleep(time)) })
    }

    /// The whole of it.
    ///
    /// # Errors
    ///
    /// What it goes beyond.
    pub async fn whole(self) -> Result<Bytes, Refusal> {
        Ok(self.collect().await?.to_bytes())
    }
}

impl<B: Body<Data = Bytes> + Unpin> Body for Guarded<B> {
    type Data = Bytes;
    type Error = Refusal;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Refusal>>> {
        let this = &mut *self;
        if this.late.as_mut().poll(cx).is_ready() {
            return Poll::Ready(Some(Err(Refusal::Slow)));
        }
        let frame = match ready!(Pin::new(&mut this.body).poll_frame(cx)) {
            None => return Poll::Ready(None),
            Some(Err(_)) => return Poll::Ready(Some(Err(Refusal::Cut))),
            Some(Ok(frame)) => frame,
        };
        let bytes = frame.data_ref().map_or(0, Bytes::len);
        let Some(left) = this.left.checked_sub(bytes) else {
            return Poll::Ready(Some(Err(Refusal::TooLarge { limit: this.limit, what: "bytes" })));
        };
        this.left = left;
        if !this.lease.take(bytes) {
            return Poll::Ready(Some(Err(Refusal::Busy { seconds: 1 })));
        }
        Poll::Ready(Some(Ok(frame)))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)] // A test may panic.
mod tests {
    use http_body_util::Full;

    use super::*;

    fn read(bytes: usize, limit: usize, budget: &Arc<Budget>) -> Result<(Bytes, Arc<Lease>), Refusal> {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(async {
            let lease = Lease::of(budget);
            let body = Full::new(Bytes::from(vec![1; bytes]));
            let whole = Guarded::new(body, lease.clone(), limit, Duration::from_secs(9))?.whole().await?;
            Ok((whole, lease))
        })
    }

    #[test]
    fn bodies_share_their_memory() {
        let budget = Budget::new(100);
        let (first, lease) = read(60, 60, &budget).unwrap();
        assert_eq!(first.len(), 60);
        assert_eq!(read(41, 60, &budget).unwrap_err(), Refusal::Busy { seconds: 1 });
        // What was refused holds nothing.
        let (_, second) = read(40, 60, &budget).unwrap();
        assert!(read(1, 60, &budget).is_err());
        drop((lease, second));
        assert!(read(100, 100, &budget).is_ok());
        assert_eq!(read(61, 60, &budget).unwrap_err(), Refusal::TooLarge { limit: 60, what: "bytes" });
        assert_eq!(budget.left.load(Ordering::Relaxed), 100);
    }
}

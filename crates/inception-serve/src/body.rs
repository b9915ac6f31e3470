//! Bodies of requests, read within limits: on the bytes of one, on those of all, and on time.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
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
    /// Bytes that were taken of the memory for all before they came.
    reserved: usize,
    left: usize,
    limit: usize,
    late: Pin<Box<Sleep>>,
}

impl<B: Body<Data = Bytes> + Unpin> Guarded<B> {
    /// `body`, of at most `limit` bytes, which has to arrive within `time`. One that says how long it is has
    /// its memory from the beginning, so that of several at once some arrive, and not a part of each.
    ///
    /// # Errors
    ///
    /// Where it says its length, [`Refusal::TooLarge`] beyond the limit, and [`Refusal::Busy`] where the
    /// memory for all bodies does not have that much left.
    pub fn new(body: B, lease: Arc<Lease>, limit: usize, time: Duration) -> Result<Self, Refusal> {
        if body.size_hint().lower() > limit as u64 {
            return Err(Refusal::TooLarge { limit, what: "bytes" });
        }
        let reserved = body.size_hint().exact().and_then(|bytes| usize::try_from(bytes).ok()).unwrap_or(0);
        if !lease.take(reserved) {
            return Err(Refusal::Busy { seconds: 1 });
        }
        Ok(Self { body, lease, reserved, left: limit, limit, late: Box::pin(sleep(time)) })
    }

    /// The whole of it.
    ///
    /// # Errors
    ///
    /// What it goes beyond.
    pub async fn whole(mut self) -> Result<Bytes, Refusal> {
        // The system gives memory as it is written to, so that only what arrives is taken.
        let mut whole = BytesMut::with_capacity(self.reserved);
        while let Some(frame) = self.frame().await {
            if let Ok(data) = frame?.into_data() {
                whole.extend_from_slice(&data);
            }
        }
        Ok(whole.freeze())
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
        let more = bytes.saturating_sub(this.reserved);
        this.reserved -= bytes - more;
        if !this.lease.take(more) {
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
    use std::convert::Infallible;

    use http_body_util::{Full, StreamBody};

    use super::*;

    type Read = Result<(Bytes, Arc<Lease>), Refusal>;

    fn run<T>(read: impl Future<Output = T>) -> T {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
        runtime.block_on(read)
    }

    /// Reads a body that says its length.
    fn read(bytes: usize, limit: usize, budget: &Arc<Budget>) -> Read {
        run(async {
            let lease = Lease::of(budget);
            let body = Full::new(Bytes::from(vec![1; bytes]));
            let whole = Guarded::new(body, lease.clone(), limit, Duration::from_secs(9))?.whole().await?;
            Ok((whole, lease))
        })
    }

    /// Reads a body that comes in two parts and does not say its length.
    fn read_parts(parts: [usize; 2], limit: usize, budget: &Arc<Budget>) -> Read {
        run(async {
            let lease = Lease::of(budget);
            let frame = |bytes| Ok::<_, Infallible>(Frame::data(Bytes::from(vec![1; bytes])));
            let body = StreamBody::new(tokio_stream::iter(parts.map(frame)));
            let whole = Guarded::new(body, lease.clone(), limit, Duration::from_secs(9))?.whole().await?;
            Ok((whole, lease))
        })
    }

    const BUSY: Refusal = Refusal::Busy { seconds: 1 };

    #[test]
    fn bodies_share_their_memory() {
        let budget = Budget::new(100);
        let (first, lease) = read(60, 60, &budget).unwrap();
        assert_eq!(first.len(), 60);
        assert_eq!(read(41, 60, &budget).unwrap_err(), BUSY);
        // What was refused holds nothing.
        let (_, second) = read(40, 60, &budget).unwrap();
        assert!(read(1, 60, &budget).is_err());
        drop((lease, second));
        assert!(read(100, 100, &budget).is_ok());
        assert_eq!(read(61, 60, &budget).unwrap_err(), Refusal::TooLarge { limit: 60, what: "bytes" });
        assert_eq!(budget.left.load(Ordering::Relaxed), 100);
    }

    #[test]
    fn bodies_without_a_length_take_memory_as_they_grow() {
        let budget = Budget::new(100);
        let (first, lease) = read_parts([30, 40], 80, &budget).unwrap();
        assert_eq!((first.len(), budget.left.load(Ordering::Relaxed)), (70, 30));
        assert_eq!(read_parts([30, 1], 80, &budget).unwrap_err(), BUSY);
        drop(lease);
        assert_eq!(
            read_parts([40, 41], 80, &budget).unwrap_err(),
            Refusal::TooLarge { limit: 80, what: "bytes" }
        );
        assert_eq!(budget.left.load(Ordering::Relaxed), 100);
    }

    /// Two of three fit; the third is told so before it is read, and costs the others nothing.
    #[test]
    fn a_length_that_is_said_is_reserved() {
        let budget = Budget::new(100);
        let guard = |bytes: usize| {
            let body = Full::new(Bytes::from(vec![1; bytes]));
            Guarded::new(body, Lease::of(&budget), 60, Duration::from_secs(9))
        };
        run(async {
            let (first, second) = (guard(50).unwrap(), guard(50).unwrap());
            assert_eq!(guard(50).err(), Some(BUSY));
            assert_eq!(first.whole().await.unwrap().len(), 50);
            assert_eq!(second.whole().await.unwrap().len(), 50);
        });
        assert_eq!(budget.left.load(Ordering::Relaxed), 100);
    }
}

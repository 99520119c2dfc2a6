use alloc::vec::Vec;
use core::future::Future;
use core::mem;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use crate::{sleep, Code, Error};

/// Waits until all have succeeded, or the first has failed. The output is the results in the order of `futures`, or that
/// one's error.
///
/// Operations begin before this is awaited, all of them. Those that have not ended afterwards are dropped, and so cancelled: pass
/// `&mut` ones to go on with them.
pub fn all<F, T, E>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = Result<Vec<T>, E>> + Unpin
where
    F: Future<Output = Result<T, E>> + Unpin,
{
    let mut running = Running::new(futures);
    let mut results: Vec<Option<T>> = running.futures.iter().map(|_| None).collect();
    PollFn(move |context: &mut Context<'_>| loop {
        match running.poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some((_, Err(error)))) => return Poll::Ready(Err(error)),
            Poll::Ready(Some((i, Ok(result)))) => results[i] = Some(result),
            Poll::Ready(None) => return Poll::Ready(Ok(results.drain(..).flatten().collect())),
        }
    })
}

/// Waits until one has succeeded, or all have failed. The output is the first one's index and result, or the errors in the order
/// of `futures`. The others are dropped, see [`all`].
pub fn any<F, T, E>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = Result<(usize, T), Vec<E>>> + Unpin
where
    F: Future<Output = Result<T, E>> + Unpin,
{
    let mut running = Running::new(futures);
    let mut errors: Vec<Option<E>> = running.futures.iter().map(|_| None).collect();
    PollFn(move |context: &mut Context<'_>| loop {
        match running.poll_next(context) {
            Poll::Pending => return Poll::Pending,
            Poll::Ready(Some((i, Ok(result)))) => return Poll::Ready(Ok((i, result))),
            Poll::Ready(Some((i, Err(error)))) => errors[i] = Some(error),
            Poll::Ready(None) => return Poll::Ready(Err(errors.drain(..).flatten().collect())),
        }
    })
}

/// Waits until one has ended, well or not. The output is its index, and what it is. The others are dropped, see [`all`].
///
/// # Panics
///
/// When it is awaited, if there are none.
pub fn race<F>(
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = (usize, F::Output)> + Unpin
where
    F: Future + Unpin,
{
    let mut running = Running::new(futures);
    PollFn(move |context: &mut Context<'_>| {
        running
            .poll_next(context)
            .map(|ended| ended.expect("a race of none"))
    })
}

/// Waits until `n` have ended, well or not, or all if there are fewer. The output is their indices, and what they are, in the
/// order in which they ended. The others are dropped, see [`all`].
pub fn some<F>(
    n: usize,
    futures: impl IntoIterator<Item = F>,
) -> impl Future<Output = Vec<(usize, F::Output)>> + Unpin
where
    F: Future + Unpin,
{
    let mut running = Running::new(futures);
    let mut ended = Vec::new();
    PollFn(move |context: &mut Context<'_>| {
        while ended.len() < n {
            match running.poll_next(context) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(end)) => ended.push(end),
                Poll::Ready(None) => break,
            }
        }
        Poll::Ready(mem::take(&mut ended))
    })
}

/// Waits for a future, but no longer than `time`: then it is dropped, and the error is one of [`Code::Elapsed`].
pub fn timeout<F, T, E>(time: Duration, future: F) -> impl Future<Output = Result<T, E>> + Unpin
where
    F: Future<Output = Result<T, E>> + Unpin,
    E: From<Error>,
{
    let (mut future, mut timer) = (future, sleep(time));
    PollFn(move |context: &mut Context<'_>| {
        if let Poll::Ready(output) = Pin::new(&mut future).poll(context) {
            return Poll::Ready(output);
        }
        Pin::new(&mut timer)
            .poll(context)
            .map(|end| Err(end.err().unwrap_or_else(|| Code::Elapsed.into()).into()))
    })
}

/// Futures of which some have ended.
struct Running<F> {
    futures: Vec<Option<F>>,
    left: usize,
    next: usize, // to be polled
}

impl<F: Future + Unpin> Running<F> {
    fn new(futures: impl IntoIterator<Item = F>) -> Running<F> {
        let futures: Vec<_> = futures.into_iter().map(Some).collect();
        Running {
            left: futures.len(),
            futures,
            next: 0,
        }
    }

    /// The next that has ended, by index; None if all have.
    fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Option<(usize, F::Output)>> {
        if self.left == 0 {
            return Poll::Ready(None);
        }
        while self.next < self.futures.len() {
            let i = self.next;
            self.next += 1;
            if let Some(future) = &mut self.futures[i] {
                if let Poll::Ready(output) = Pin::new(future).poll(context) {
                    self.futures[i] = None;
                    self.left -= 1;
                    return Poll::Ready(Some((i, output)));
                }
            }
        }
        self.next = 0;
        Poll::Pending
    }
}

/// A future of a closure, as core::future::poll_fn of Rust 1.64 makes them.
struct PollFn<P>(P);

// The closure is not pinned, and need not be.
impl<P> Unpin for PollFn<P> {}

impl<T, P: FnMut(&mut Context<'_>) -> Poll<T>> Future for PollFn<P> {
    type Output = T;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<T> {
        (self.0)(context)
    }
}

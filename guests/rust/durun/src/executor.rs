//! Runs futures until all of them wait, and then waits for all of their operations at once.

use alloc::boxed::Box;
use alloc::collections::BTreeMap;
use alloc::sync::Arc;
use alloc::task::Wake;
use alloc::vec::Vec;
use core::cell::RefCell;
use core::future::Future;
use core::mem;
use core::sync::atomic::{AtomicBool, Ordering};
use core::task::{Context, Poll, Waker};

use crate::{abi, Code};

/// How it stands with an operation that a future waits for.
enum Awaited {
    Pending(Waker),
    /// The host says that it has ended.
    Ended,
    /// It has not, but the coroutine is to be cancelled.
    Cancelled,
}

type Table = BTreeMap<u32, Awaited>;

/// What futures wait for, by operation; None until one does.
struct Waiting(RefCell<Option<Table>>);

// SAFETY: there is one thread, as lib.rs checks. On other targets than WebAssembly no operation begins, so nothing gets here.
unsafe impl Sync for Waiting {}

static WAITING: Waiting = Waiting(RefCell::new(None));

/// Does something with the table. That must not call, clone or drop a waker, which may be anybody's code, and come back here.
fn with_table<T>(do_it: impl FnOnce(&mut Table) -> T) -> T {
    do_it(WAITING.0.borrow_mut().get_or_insert_with(Table::new))
}

/// Says whether an operation has ended, or why to wait no longer; if neither, the waker is called once that changes.
pub fn poll(number: u32, waker: &Waker) -> Poll<Result<(), Code>> {
    match with_table(|table| table.remove(&number)) {
        Some(Awaited::Ended) => return Poll::Ready(Ok(())),
        Some(Awaited::Cancelled) => return Poll::Ready(Err(Code::CoroutineCancelled)),
        Some(Awaited::Pending(_)) => {}
        None if abi::has_ended(number) => return Poll::Ready(Ok(())),
        None => {}
    }
    let pending = Awaited::Pending(waker.clone());
    with_table(|table| table.insert(number, pending));
    Poll::Pending
}

/// Forgets that somebody waits for an operation.
pub fn forget(number: u32) {
    with_table(|table| table.remove(&number));
}

/// Wakes who waits for one of the operations, if it has ended.
pub fn check(number: u32) {
    wake(&[number], |number| {
        abi::has_ended(number).then(|| Awaited::Ended)
    });
}

/// Gives those of the operations a new state, and wakes who waits for them, for which there is one.
fn wake(numbers: &[u32], state: impl Fn(u32) -> Option<Awaited>) {
    let mut woken = Vec::new();
    with_table(|table| {
        for &number in numbers {
            if let Some(awaited @ Awaited::Pending(_)) = table.get_mut(&number) {
                if let Some(state) = state(number) {
                    woken.push(mem::replace(awaited, state));
                }
            }
        }
    });
    for awaited in woken {
        if let Awaited::Pending(waker) = awaited {
            waker.wake();
        }
    }
}

/// Waits until one of the operations that futures wait for has ended.
fn wait() {
    let pending: Vec<u32> = with_table(|table| {
        table
            .iter()
            .filter(|(_, awaited)| matches!(awaited, Awaited::Pending(_)))
            .map(|(&number, _)| number)
            .collect()
    });
    if pending.is_empty() {
        panic!("durun::block_on: the future waits for something else than operations");
    }
    match abi::wait(&pending).map_err(Code::from_host) {
        Ok(_) => wake(&pending, |number| {
            abi::has_ended(number).then(|| Awaited::Ended)
        }),
        Err(Code::Cancelled) => wake(&pending, |_| Some(Awaited::Cancelled)),
        Err(code) => panic!("durun::block_on: wait: {}", code),
    }
}

/// A future's waker notes that it was called.
struct Woken(AtomicBool);

impl Wake for Woken {
    fn wake(self: Arc<Self>) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Runs a future to its end. When it can't go on, the program waits for all operations that it waits for, and suspends there.
///
/// # Panics
///
/// If the future waits for something that isn't an operation, and nothing wakes it: it would wait forever.
pub fn block_on<F: Future>(future: F) -> F::Output {
    let mut future = Box::pin(future);
    let woken = Arc::new(Woken(AtomicBool::new(true)));
    let waker = Waker::from(woken.clone());
    let mut context = Context::from_waker(&waker);
    loop {
        if !woken.0.swap(false, Ordering::Relaxed) {
            wait();
        } else if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return output;
        }
    }
}

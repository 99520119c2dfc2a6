use alloc::string::String;
use alloc::vec::Vec;
use core::future::Future;
use core::marker::PhantomData;
use core::pin::Pin;
use core::task::{Context, Poll};
use core::time::Duration;

use crate::executor;
use crate::{abi, block_on, Code, Error};

const TIMER: u32 = 1;
const CALL: u32 = 2;
const SPAWN: u32 = 3;
const RECV: u32 = 4;

/// The target of [`spawn`] that stands for the program itself.
pub const SELF: &str = "";

/// Something that happens outside, and ends. It is a future of its result, for [`block_on`] to run: no other executor hears of
/// ends. Dropping it cancels and forgets it; to go on with one that was awaited in vain, by [`race`](crate::race) say, await
/// `&mut operation`.
///
/// What can't be begun, because a name or the size of a body is not allowed, is an operation as well, which has ended with
/// [`Code::Invalid`] or [`Code::Limit`].
#[derive(Debug)]
#[must_use = "an operation that is dropped is cancelled"]
pub struct Operation {
    begun: Result<u32, Error>,
    description: String, // for people: "call send_email"
    one_thread: PhantomData<*const ()>,
}

/// Begins a call of a handler on the host, of that name. What body and result mean is between the two. If the run was given no
/// such handler, the operation ends with [`Code::Denied`].
pub fn call(name: &str, body: impl AsRef<[u8]>) -> Operation {
    Operation::begin(CALL, name, body.as_ref())
}

/// Begins a timer: an operation that ends after a time, without a result. It goes on while nobody runs the program.
pub fn sleep(time: Duration) -> Operation {
    let nanoseconds = i64::try_from(time.as_nanos()).unwrap_or(i64::MAX);
    Operation::begin(TIMER, "", &nanoseconds.to_le_bytes())
}

/// Begins to receive: the operation's result is the data of the next message of that name (`durun send ID name data`) which
/// nobody has received yet. Messages that come before are kept.
pub fn recv(name: &str) -> Operation {
    Operation::begin(RECV, name, b"")
}

/// Begins a child: a coroutine of its own. The target is [`SELF`] for this program, the name of an export of its module, or
/// `module:NAME` or `module:NAME/EXPORT` for a module that the run was given (`--module`). The child finds `input` with
/// [`input`](crate::input), and `args` after its program's name; without args it has this program's. Its
/// [`output`](crate::output) is the operation's result. A child that exits with another code than 0 is [`Code::Failed`], and its
/// output, if that is text, is part of the error's message.
///
/// Children of a program that ends are cancelled.
pub fn spawn(target: &str, args: &[&str], input: impl AsRef<[u8]>) -> Operation {
    let name = [&[target], args].concat().join("\0");
    Operation::begin(SPAWN, &name, input.as_ref())
}

impl Operation {
    fn begin(kind: u32, name: &str, body: &[u8]) -> Operation {
        let mut description = String::from(["", "timer", "call", "spawn", "recv"][kind as usize]);
        for word in name.split('\0').filter(|word| !word.is_empty()) {
            description.push(' ');
            description.push_str(word);
        }
        let begun = abi::begin(kind, name.as_bytes(), body).map_err(|code| {
            let why = abi::message(abi::LAST_BEGIN);
            Error::new(Code::from_host(code), &description, why)
        });
        Operation {
            begun,
            description,
            one_thread: PhantomData,
        }
    }

    /// The operation's number in the coroutine, from 1, as `durun inspect` shows it. A child's id is its parent's, a dot, and
    /// this number. 0 stands for one that could not begin.
    pub fn number(&self) -> u32 {
        *self.begun.as_ref().unwrap_or(&0)
    }

    /// Whether it has ended, well or not.
    pub fn has_ended(&self) -> bool {
        self.begun
            .as_ref()
            .map_or(true, |&number| abi::has_ended(number))
    }

    /// How the operation ended, without waiting: [`Code::Pending`] if it has not. It may be asked again.
    pub fn result(&self) -> Result<Vec<u8>, Error> {
        let number = self.begun.clone()?;
        abi::result(number).map_err(|code| {
            let why = abi::message(number);
            Error::new(Code::from_host(code), &self.description, why)
        })
    }

    /// Waits until the operation has ended, and returns its result. Futures don't go on meanwhile: in async code, use `await`.
    pub fn wait(&mut self) -> Result<Vec<u8>, Error> {
        block_on(self)
    }

    /// Gives the operation up if it has not ended. It ends with [`Code::Cancelled`] at once, but for a child, which is asked to
    /// end, and does so in its own time. What a handler has done already stays done.
    pub fn cancel(&self) {
        if let Ok(number) = self.begun.clone() {
            abi::cancel(number);
            executor::check(number);
        }
    }
}

impl Future for Operation {
    type Output = Result<Vec<u8>, Error>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        match &self.begun {
            Err(error) => Poll::Ready(Err(error.clone())),
            Ok(number) => match executor::poll(*number, context.waker()) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(Err(code)) => Poll::Ready(Err(code.into())),
                Poll::Ready(Ok(())) => Poll::Ready(self.result()),
            },
        }
    }
}

impl Drop for Operation {
    fn drop(&mut self) {
        if let Ok(number) = self.begun.clone() {
            executor::forget(number);
            abi::drop(number);
        }
    }
}

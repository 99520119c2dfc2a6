use alloc::string::String;
use alloc::vec::Vec;

use crate::abi;

/// The coroutine's id, to which others send messages.
pub fn id() -> String {
    abi::id()
}

/// The id of the coroutine that has spawned this one, if one has.
#[cfg(feature = "std")]
pub fn parent() -> Option<String> {
    std::env::var("DURUN_PARENT")
        .ok()
        .filter(|id| !id.is_empty())
}

/// The coroutine's input, or, after a [`yield_value`], the value that it has received. It is empty if there is none.
pub fn input() -> Vec<u8> {
    abi::input()
}

/// Sets the coroutine's result to a copy of `value`. The last one counts, when the program has ended.
pub fn output(value: impl AsRef<[u8]>) {
    abi::output(value.as_ref())
}

/// Hands a value to whoever drives the coroutine, and waits for one in return: empty if there is nothing to say. The command
/// prints the value as a line. Other futures don't go on meanwhile.
pub fn yield_value(value: impl AsRef<[u8]>) -> Vec<u8> {
    abi::yield_(value.as_ref());
    abi::input()
}

/// Waits until all that the program has done is durable. Other futures don't go on meanwhile.
pub fn checkpoint() {
    abi::checkpoint()
}

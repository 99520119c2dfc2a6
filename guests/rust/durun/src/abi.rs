//! The functions of the import module, see hostabi/ABI.md, as safe as Rust can have them.

use alloc::string::String;
use alloc::vec;
use alloc::vec::Vec;

#[cfg(target_arch = "wasm32")]
mod host {
    #[link(wasm_import_module = "durun")]
    extern "C" {
        pub fn input(buf: *mut u8, cap: usize) -> i32;
        pub fn output(ptr: *const u8, len: usize);
        #[link_name = "yield"]
        pub fn yield_(ptr: *const u8, len: usize) -> i32;
        pub fn checkpoint();
        pub fn id(buf: *mut u8, cap: usize) -> i32;
        pub fn begin(
            kind: u32,
            name: *const u8,
            name_len: usize,
            body: *const u8,
            body_len: usize,
        ) -> i32;
        pub fn wait(ops: *const u32, n: usize, min: u32, timeout: i64) -> i32;
        pub fn result(op: u32, buf: *mut u8, cap: usize) -> i32;
        pub fn message(op: u32, buf: *mut u8, cap: usize) -> i32;
        pub fn cancel(op: u32) -> i32;
        pub fn drop(op: u32) -> i32;
    }
}

/// What is needed to compile for other targets.
#[cfg(not(target_arch = "wasm32"))]
mod host {
    macro_rules! missing {
        ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?;)*) => {
            $(pub unsafe fn $name($($arg: $type),*) $(-> $result)? {
                $(let _ = $arg;)*
                panic!("durun: the program runs outside of durun; build it for wasm32-wasip1")
            })*
        };
    }
    missing! {
        input(buf: *mut u8, cap: usize) -> i32;
        output(ptr: *const u8, len: usize);
        yield_(ptr: *const u8, len: usize) -> i32;
        checkpoint();
        id(buf: *mut u8, cap: usize) -> i32;
        begin(kind: u32, name: *const u8, name_len: usize, body: *const u8, body_len: usize) -> i32;
        wait(ops: *const u32, n: usize, min: u32, timeout: i64) -> i32;
        result(op: u32, buf: *mut u8, cap: usize) -> i32;
        message(op: u32, buf: *mut u8, cap: usize) -> i32;
        cancel(op: u32) -> i32;
        drop(op: u32) -> i32;
    }
}

/// Reads a value whose length the host knows: a function that fills a buffer, and returns the full length, or a
/// code, negated.
fn sized(read: impl Fn(*mut u8, usize) -> i32) -> Result<Vec<u8>, i32> {
    let len = read(core::ptr::null_mut(), 0);
    if len < 0 {
        return Err(-len);
    }
    let mut buf = vec![0; len as usize];
    // Nothing happens in between, so the length is still the same.
    read(buf.as_mut_ptr(), buf.len());
    Ok(buf)
}

fn text(bytes: Vec<u8>) -> String {
    String::from_utf8_lossy(&bytes).into_owned()
}

// SAFETY of all that follows: the host reads and writes no more than the ranges that it is given, and keeps none.

pub fn input() -> Vec<u8> {
    sized(|buf, cap| unsafe { host::input(buf, cap) }).unwrap_or_default()
}

pub fn output(value: &[u8]) {
    unsafe { host::output(value.as_ptr(), value.len()) }
}

pub fn yield_(value: &[u8]) {
    unsafe { host::yield_(value.as_ptr(), value.len()) };
}

pub fn checkpoint() {
    unsafe { host::checkpoint() }
}

pub fn id() -> String {
    text(sized(|buf, cap| unsafe { host::id(buf, cap) }).unwrap_or_default())
}

/// Begins an operation. The error is a code.
pub fn begin(kind: u32, name: &[u8], body: &[u8]) -> Result<u32, i32> {
    let op = unsafe { host::begin(kind, name.as_ptr(), name.len(), body.as_ptr(), body.len()) };
    if op < 0 {
        Err(-op)
    } else {
        Ok(op as u32)
    }
}

/// Waits until one of the operations has ended, and returns how many have. The error is a code.
pub fn wait(ops: &[u32]) -> Result<usize, i32> {
    let ended = unsafe { host::wait(ops.as_ptr(), ops.len(), 1, -1) };
    if ended < 0 {
        Err(-ended)
    } else {
        Ok(ended as usize)
    }
}

pub fn has_ended(op: u32) -> bool {
    const PENDING: i32 = -1;
    unsafe { host::result(op, core::ptr::null_mut(), 0) != PENDING }
}

/// The operation's result. The error is a code.
pub fn result(op: u32) -> Result<Vec<u8>, i32> {
    sized(|buf, cap| unsafe { host::result(op, buf, cap) })
}

/// What [`message`] takes for the number of an operation that could not begin, the last one.
pub const LAST_BEGIN: u32 = 0;

/// Why an operation failed, for people.
pub fn message(op: u32) -> String {
    text(sized(|buf, cap| unsafe { host::message(op, buf, cap) }).unwrap_or_default())
}

pub fn cancel(op: u32) {
    unsafe { host::cancel(op) };
}

pub fn drop(op: u32) {
    unsafe { host::drop(op) };
}

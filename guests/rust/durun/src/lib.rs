//! For programs that run under durun: compiled to WebAssembly, suspended where they wait, and gone on with elsewhere.
//!
//! A program needs none of it to be durable, `std::thread::sleep` and files are so by themselves. What the crate adds is
//! something else to wait for: calls of handlers on the host, messages, timers, and children.
//!
//! ```no_run
//! async fn notify_users(emails: &[&str]) -> Result<(), durun::Error> {
//!     let sent = emails.iter().map(|to| durun::call("send_email", to));
//!     let results = durun::all(sent).await?;
//!     println!("{} sent", results.len());
//!     Ok(())
//! }
//!
//! fn main() -> Result<(), durun::Error> {
//!     durun::block_on(notify_users(&["ada@example.org", "bob@example.org"]))
//! }
//! ```
//!
//! # Operations
//!
//! [`call`], [`sleep`], [`recv`] and [`spawn`] begin an operation, and return it as an [`Operation`] at once. It leaves
//! with the next commit, so the next time that the program waits; then it happens at least once, however often the
//! machine dies, and the program sees its end exactly once. A handler gets an idempotency key, the same at each attempt.
//!
//! An operation is a future. [`block_on`] runs futures until all of them wait, and then waits for all of their operations
//! together. Code that isn't async uses [`Operation::wait`]. An operation that is dropped is cancelled.
//!
//! [`all`], [`any`], [`race`], [`some`] and [`timeout`] wait for several futures: operations, `&mut` operations, and
//! `Box::pin(async { … })`.
//!
//! # Cancellation
//!
//! A coroutine can be asked to end (`durun cancel`; or its parent has ended). Then every operation that is being waited for
//! returns an error of [`Code::CoroutineCancelled`], once; the operation itself goes on. The program may clean up, for which
//! it can begin and wait as ever, and ends.
//!
//! # Targets
//!
//! `wasm32-wasip1` (`wasm32-wasi` before Rust 1.78), or `wasm32-unknown-unknown` without `std`. There is one thread. On
//! other targets the crate compiles, for the sake of tools, and panics.

#![no_std]
#![deny(missing_docs)]
#![warn(unsafe_op_in_unsafe_fn)]

#[cfg(all(target_arch = "wasm32", target_feature = "atomics"))]
compile_error!("durun runs programs of one thread: build without atomics");

extern crate alloc;
#[cfg(feature = "std")]
extern crate std;

mod abi;
mod coroutine;
mod error;
mod executor;
mod join;
mod operation;

#[cfg(feature = "std")]
pub use coroutine::parent;
pub use coroutine::{checkpoint, id, input, output, yield_value};
pub use error::{Code, Error};
pub use executor::block_on;
pub use join::{all, any, race, some, timeout};
pub use operation::{call, recv, sleep, spawn, Operation, SELF};

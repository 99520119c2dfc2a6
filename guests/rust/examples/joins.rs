//! Waits for several operations in all ways, and has operations end in all ways. It asks for the handlers "echo", which answers
//! with its argument, "fail", which fails, and "stop", which has this program cancelled.

use std::cell::Cell;
use std::time::Duration;

use durun::{all, any, block_on, call, race, sleep, some, timeout, Code, Error, Operation};

const HOUR: Duration = Duration::from_secs(3600);
const MILLISECOND: Duration = Duration::from_millis(1);

fn text(result: Result<Vec<u8>, Error>) -> Result<String, Error> {
    result.map(|bytes| String::from_utf8_lossy(&bytes).into_owned())
}

fn timers() {
    let mut ops = [sleep(HOUR), sleep(MILLISECOND), sleep(Duration::ZERO)];
    println!("some: {}", block_on(some(2, &mut ops)).len());
    println!(
        "result: {:?}, ended: {}",
        ops[0].result(),
        ops[0].has_ended()
    );
    // Two are over: the first in the list.
    println!("race: {:?}", block_on(race(&mut ops)));
    println!("timeout: {:?}", block_on(timeout(MILLISECOND, &mut ops[0])));
    ops[0].cancel();
    println!("cancelled: {:?}", ops[0].wait());
    println!("settled: {}", block_on(some(7, &mut ops)).len());
    println!("all: {:?}", block_on(all(&mut ops)));
    println!(
        "all of those that end well: {:?}",
        block_on(all(&mut ops[1..])).map(|results| results.len())
    );
}

fn calls() {
    let mut ops = [
        call("fail", "me"),
        call("echo", "hello"),
        call("no such handler", ""),
    ];
    let winner = block_on(any(&mut ops)).map(|(i, result)| (i, text(Ok(result))));
    println!("any: {winner:?}");
    println!("again: {:?}", text(ops[1].wait()));
    println!("fail: {:?}", ops[0].wait());
    println!(
        "no such handler: {:?}",
        ops[2].wait().map_err(|error| error.code())
    );
    ops.swap(1, 2);
    let failures = block_on(any(&mut ops[..2]));
    println!(
        "any of failures: {:?}",
        failures.map_err(|errors| errors.len())
    );
    println!(
        "large: {:?}",
        call("echo", vec![0; 1 << 20])
            .wait()
            .map(|result| result.len())
    );
}

/// Futures of more than operations, several of which wait.
fn tasks() {
    let sum = Cell::new(0);
    let task = |n: u64| {
        let sum = &sum;
        Box::pin(async move {
            for _ in 0..3 {
                sleep(Duration::from_millis(n)).await?;
                sum.set(sum.get() + n);
            }
            Ok::<_, Error>(n)
        })
    };
    println!(
        "tasks: {:?}, sum {}",
        block_on(all((1..=10).map(task))),
        sum.get()
    );
    println!(
        "too slow: {:?}",
        block_on(timeout(MILLISECOND, Box::pin(async { sleep(HOUR).await })))
    );
}

/// What is wrong from the start waits for nothing.
fn mistakes() {
    let mut nameless = call("", "");
    println!("nameless: {}, {:?}", nameless.number(), nameless.wait());
    nameless.cancel();
    println!(
        "too large: {:?}",
        call("echo", vec![0; 17 << 20])
            .wait()
            .map_err(|error| error.code())
    );
    println!("all of none: {:?}", block_on(all(Vec::<Operation>::new())));
    println!("any of none: {:?}", block_on(any(Vec::<Operation>::new())));
    println!(
        "some of none: {:?}",
        block_on(some(1, Vec::<Operation>::new()))
    );
}

fn stop() {
    let mut other = sleep(HOUR);
    let _stop = call("stop", "");
    let ends = block_on(some(2, [&mut other, &mut sleep(HOUR)]));
    println!("sleep: {ends:?}");
    assert!(ends
        .iter()
        .all(|(_, end)| end.as_ref().err().map(Error::code) == Some(Code::CoroutineCancelled)));
    println!("sleep, to clean up: {:?}", sleep(MILLISECOND).wait());
    println!("the other goes on: {}", !other.has_ended());
}

fn main() {
    println!("id: {}, parent: {:?}", durun::id(), durun::parent());
    timers();
    calls();
    tasks();
    mistakes();
    durun::checkpoint();
    stop();
    durun::output("done");
}

//! Has five children of its own program square a number each, and adds up what they return.

use std::error::Error;
use std::time::Duration;

fn number(bytes: Vec<u8>) -> Result<i64, Box<dyn Error>> {
    Ok(String::from_utf8(bytes)?.parse()?)
}

/// What a child does.
fn square() -> Result<(), Box<dyn Error>> {
    let n = number(durun::input())?;
    durun::sleep(Duration::from_millis(50)).wait()?;
    durun::output((n * n).to_string());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    if std::env::args().nth(1).as_deref() == Some("square") {
        return square();
    }
    let children = (1..=5).map(|n| durun::spawn(durun::SELF, &["square"], n.to_string()));
    let mut sum = 0;
    for square in durun::block_on(durun::all(children))? {
        sum += number(square)?;
    }
    println!("sum {sum}");
    Ok(())
}

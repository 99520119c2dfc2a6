//! Yields the squares of 1 to 5, and adds up the numbers that it gets in return.

fn main() {
    let mut received = 0;
    for n in 1..=5 {
        let answer = durun::yield_value((n * n).to_string());
        received += String::from_utf8_lossy(&answer).parse::<i64>().unwrap_or(0);
    }
    println!("received {received}");
}

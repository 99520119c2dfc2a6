//! Waits for a message, or gives up after a time.

mod json;

use std::error::Error;
use std::time::Duration;

use durun::Code;
use json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let mut seconds = 2.0;
    let input = durun::input();
    if !input.is_empty() {
        let input = json::parse(&String::from_utf8(input)?)?;
        seconds = input
            .get("timeout")
            .and_then(Value::as_number)
            .ok_or("the input has no timeout")?;
    }

    let approval = durun::timeout(Duration::from_secs_f64(seconds), durun::recv("approval"));
    let answer = match durun::block_on(approval) {
        Err(error) if error.code() == Code::Elapsed => {
            println!("timed out");
            return Ok(());
        }
        answer => json::parse(&String::from_utf8(answer?)?)?,
    };
    match answer.as_str() {
        Some("yes") => println!("approved"),
        _ => println!("declined"),
    }
    Ok(())
}

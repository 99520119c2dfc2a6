//! Waits for a message, or gives up after a time.

mod json;

use std::error::Error;
use std::time::Duration;

use durun::Code;
use json::Value;

fn main() -> Result<(), Box<dyn Error>> {
    let input = durun::input();
    let mut seconds = 2.0;
    if !input.is_empty() {
        let input = json::parse(&String::from_utf8(input)?)?;
        if let Some(timeout) = input.get("timeout").and_then(Value::as_number) {
            seconds = timeout.clamp(0.0, 1e9); // some thirty years
        }
    }

    let approval = durun::timeout(Duration::from_secs_f64(seconds), durun::recv("approval"));
    match durun::block_on(approval) {
        Ok(answer) => match json::parse(&String::from_utf8_lossy(&answer)) {
            Ok(Value::String(answer)) if answer == "yes" => println!("approved"),
            _ => println!("declined"),
        },
        Err(error) if error.code() == Code::Elapsed => println!("timed out"),
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

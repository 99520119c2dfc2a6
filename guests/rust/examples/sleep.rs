//! Prints three ticks, and sleeps between them.

use std::time::Duration;

fn main() -> Result<(), durun::Error> {
    for tick in 1..=3 {
        if tick > 1 {
            durun::sleep(Duration::from_millis(100)).wait()?;
        }
        println!("tick {tick}");
    }
    Ok(())
}

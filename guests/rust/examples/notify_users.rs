//! Sends an e-mail to each address of a list, in parallel, and then stores the results.

mod json;

use std::error::Error;

use json::Value;

async fn notify_users(opid: &str, emails: &[&str]) -> Result<(), durun::Error> {
    let sent = emails
        .iter()
        .map(|to| durun::call("send_email", format!(r#"{{"to":{}}}"#, json::quote(to))));
    let results: Vec<String> = durun::all(sent)
        .await?
        .into_iter()
        .map(|result| String::from_utf8_lossy(&result).into_owned())
        .collect();

    let opid = json::quote(opid);
    let list = results.join(",");
    durun::call(
        "store_results",
        format!(r#"{{"opid":{opid},"results":[{list}]}}"#),
    )
    .await?;
    println!("stored {}", results.len());
    Ok(())
}

fn main() -> Result<(), Box<dyn Error>> {
    let input = json::parse(&String::from_utf8(durun::input())?)?;
    let opid = input
        .get("opid")
        .and_then(Value::as_str)
        .ok_or("the input has no opid")?;
    let emails = input
        .get("emails")
        .and_then(Value::as_array)
        .ok_or("the input has no emails")?;
    let emails: Vec<&str> = emails.iter().filter_map(Value::as_str).collect();
    durun::block_on(notify_users(opid, &emails))?;
    Ok(())
}

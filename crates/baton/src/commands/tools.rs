//! `baton tools`: tools of a running system, and which of their definitions may be used.

use std::fmt::Write as _;

use anyhow::{Context as _, anyhow};
use reqwest::Method;
use serde_json::{Value, json};

use crate::cli::{Common, Failure};
use crate::commands::client::{Server, segment};
use crate::commands::columns::{date, lined_up};

/// What is done with tools.
#[derive(Debug, clap::Subcommand)]
pub(crate) enum Tools {
    /// List tools, servers without an answer, and what is refused
    List {
        #[command(flatten)]
        server: Server,
    },
    /// Call a tool
    Call {
        /// The tool, as server__tool
        name: String,
        /// Its arguments, as a JSON object
        #[arg(default_value = "{}")]
        arguments: String,
        #[command(flatten)]
        server: Server,
    },
    /// List what is pinned, or of one tool how its definitions differ from the approved one
    Diff {
        /// The tool, as server__tool; every definition that waits when absent
        name: Option<String>,
        #[command(flatten)]
        server: Server,
    },
    /// Approve a tool's definition: it is the one that may be used
    Approve {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        server: Server,
    },
    /// Reject a tool's definition: it may not be used
    Reject {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        server: Server,
    },
    /// List calls of tools, the newest first
    Calls {
        /// At most so many
        #[arg(long, default_value_t = 50)]
        limit: u32,
        /// Those before this number
        #[arg(long)]
        before: Option<i64>,
        #[command(flatten)]
        server: Server,
    },
}

/// A definition of a tool.
#[derive(Debug, clap::Args)]
pub(crate) struct Which {
    /// The tool, as server__tool
    name: String,
    /// The definition's pin, or its beginning; the one that waits when there is one alone
    #[arg(long)]
    pin: Option<String>,
}

pub(crate) async fn run(common: &Common, command: Tools) -> Result<(), Failure> {
    match command {
        Tools::List { server } => {
            let list = server.ask(Method::GET, "/api/v1/tools", None).await?;
            print(common, &list, listed);
        }
        Tools::Call { name, arguments, server } => {
            let arguments: Value = serde_json::from_str(&arguments).context("the arguments")?;
            let path = format!("/api/v1/tools/{}", segment(&name));
            let answer = server.ask(Method::POST, &path, Some(&arguments)).await?;
            print(common, &answer, answered);
            if answer["is_error"] == true {
                return Err(anyhow!("the tool says that it failed").into());
            }
        }
        Tools::Diff { name: None, server } => {
            let pins = server.ask(Method::GET, "/api/v1/tools/pins?state=waiting", None).await?;
            print(common, &pins, table);
        }
        Tools::Diff { name: Some(name), server } => {
            print(common, &of_tool(&server, &name).await?, definitions);
        }
        Tools::Approve { which, server } => decide(common, &server, &which, "approve").await?,
        Tools::Reject { which, server } => decide(common, &server, &which, "reject").await?,
        Tools::Calls { limit, before, server } => {
            let before = before.map(|before| format!("&before={before}")).unwrap_or_default();
            let path = format!("/api/v1/tools/calls?limit={limit}{before}");
            print(common, &server.ask(Method::GET, &path, None).await?, calls);
        }
    }
    Ok(())
}

fn print(common: &Common, answer: &Value, told: fn(&Value) -> String) {
    match common.json {
        true => println!("{answer}"),
        false => print!("{}", told(answer)),
    }
}

async fn of_tool(server: &Server, name: &str) -> Result<Value, Failure> {
    server.ask(Method::GET, &format!("/api/v1/tools/pins/{}", segment(name)), None).await
}

/// Decides on the definition that is shown: what is sent is its whole pin, so that one which comes
/// meanwhile is not meant.
async fn decide(
    common: &Common,
    server: &Server,
    which: &Which,
    what: &str,
) -> Result<(), Failure> {
    let known = of_tool(server, &which.name).await?;
    let pin = chosen(&known, which.pin.as_deref())?;
    let path = format!("/api/v1/tools/pins/{}/{what}", segment(&which.name));
    let body = json!({ "pin": pin["pin"] });
    let done = server.ask(Method::POST, &path, Some(&body)).await?;
    match common.json {
        true => println!("{done}"),
        false => {
            print!("{}", definition(pin));
            println!("{} is {}", visible(text(&done, "name")), visible(text(&done, "state")));
        }
    }
    Ok(())
}

/// Returns the pin that begins so, or the only one that waits.
fn chosen<'a>(known: &'a Value, begins: Option<&str>) -> anyhow::Result<&'a Value> {
    let all: Vec<&Value> = list(known, "pins").collect();
    let fits = |pin: &&&Value| match begins {
        Some(begins) => text(pin, "pin").starts_with(begins),
        None => pin["state"] == "waiting",
    };
    let found: Vec<&&Value> = all.iter().filter(fits).collect();
    match (found.as_slice(), begins) {
        ([one], _) => Ok(one),
        ([], Some(begins)) => Err(anyhow!("no pin of this tool begins with {begins}")),
        ([], None) => Err(anyhow!("no definition of this tool waits; name one with --pin")),
        (many, _) => {
            let pins: Vec<&str> = many.iter().map(|pin| text(pin, "pin")).collect();
            Err(anyhow!("name one with --pin: {}", pins.join(", ")))
        }
    }
}

fn listed(answer: &Value) -> String {
    let rows = list(answer, "tools").map(|tool| {
        let first = text(tool, "description").lines().next().unwrap_or_default();
        [text(tool, "name").to_owned(), visible(first)]
    });
    let mut out = lined_up(["TOOL", "DESCRIPTION"], rows, &[]);
    for one in list(answer, "degraded") {
        let _ = writeln!(
            out,
            "server {}: {}",
            visible(text(one, "server")),
            visible(text(one, "reason"))
        );
    }
    for one in list(answer, "refused") {
        let _ = writeln!(
            out,
            "refused {}: {}",
            visible(text(one, "name")),
            visible(text(one, "reason"))
        );
    }
    out
}

fn answered(answer: &Value) -> String {
    let mut out = String::new();
    for block in list(answer, "content") {
        match block["text"].as_str() {
            // A tool's text is printed line by line, and commands no terminal.
            Some(text) => text.lines().for_each(|line| {
                let _ = writeln!(out, "{}", visible(line));
            }),
            None => {
                let _ = writeln!(out, "{}", visible(&block.to_string()));
            }
        }
    }
    out
}

fn table(answer: &Value) -> String {
    let rows = list(answer, "pins").map(|pin| {
        let short: String = text(pin, "pin").chars().take(12).collect();
        let found: Vec<&str> = list(pin, "findings").filter_map(Value::as_str).collect();
        let seen = pin["seen_at_ms"].as_i64().map(date).unwrap_or_default();
        [text(pin, "name").to_owned(), text(pin, "state").to_owned(), short, seen, found.join(", ")]
    });
    lined_up(["TOOL", "STATE", "PIN", "SEEN", "FOUND"], rows, &[])
}

fn definitions(answer: &Value) -> String {
    list(answer, "pins").map(definition).collect::<Vec<_>>().join("\n")
}

fn definition(pin: &Value) -> String {
    let mut out = String::new();
    let seen = pin["seen_at_ms"].as_i64().map(date).unwrap_or_default();
    let _ = writeln!(out, "{}  {}", visible(text(pin, "name")), visible(text(pin, "state")));
    let _ = writeln!(out, "pin      {}\nseen     {seen}", visible(text(pin, "pin")));
    if let Some(at) = pin["decided_at_ms"].as_i64() {
        let by = pin["decided_by"]["user"].as_str().unwrap_or("the policy, at first sight");
        let _ = writeln!(out, "decided  {} by {}", date(at), visible(by));
    }
    for found in list(pin, "findings").filter_map(Value::as_str) {
        let _ = writeln!(out, "found    {}", visible(found));
    }
    let changes: Vec<&Value> = list(pin, "changes").collect();
    for change in &changes {
        let _ = writeln!(out, "  {}", visible(text(change, "at")));
        for (sign, of) in [('-', "before"), ('+', "after")] {
            if !change[of].is_null() {
                let _ = writeln!(out, "  {sign} {}", visible(&change[of].to_string()));
            }
        }
    }
    if changes.is_empty() && pin["state"] != "approved" {
        let whole = serde_json::to_string_pretty(&pin["definition"]).unwrap_or_default();
        whole.lines().for_each(|line| {
            let _ = writeln!(out, "  {}", visible(line));
        });
    }
    out
}

fn calls(answer: &Value) -> String {
    let rows = list(answer, "calls").map(|call| {
        let number = call["number"].to_string();
        let ms = call["micros"].as_i64().unwrap_or_default() / 1000;
        let at = call["at_ms"].as_i64().map(date).unwrap_or_default();
        let [user, server, tool, outcome, rule] =
            ["user", "server", "tool", "outcome", "rule"].map(|of| text(call, of).to_owned());
        [number, at, user, server, tool, outcome, rule, ms.to_string()]
    });
    let head = ["NUMBER", "ENDED", "USER", "SERVER", "TOOL", "OUTCOME", "RULE", "MS"];
    lined_up(head, rows, &[0, 7])
}

fn list<'a>(answer: &'a Value, of: &str) -> impl Iterator<Item = &'a Value> {
    answer[of].as_array().into_iter().flatten()
}

fn text<'a>(value: &'a Value, of: &str) -> &'a str {
    value[of].as_str().unwrap_or_default()
}

/// Writes text of strangers so that all of it is seen: what is hidden or commands the terminal as its
/// code, everything else as it is.
fn visible(text: &str) -> String {
    let one = |c: char| match c {
        c if c.is_control() => c.escape_unicode().to_string(),
        '\u{ad}'
        | '\u{34f}'
        | '\u{61c}'
        | '\u{180b}'..='\u{180f}'
        | '\u{200b}'..='\u{200f}'
        | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}'
        | '\u{3164}'
        | '\u{fe00}'..='\u{fe0f}'
        | '\u{feff}'
        | '\u{fff0}'..='\u{fffb}'
        | '\u{e0000}'..='\u{e0fff}' => c.escape_unicode().to_string(),
        c => c.to_string(),
    };
    text.chars().map(one).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pin(pin: &str, state: &str) -> Value {
        json!({ "name": "s__t", "pin": pin, "state": state, "seen_at_ms": 0, "findings": [], "changes": [] })
    }

    #[test]
    fn the_one_that_waits_is_meant_unless_a_pin_is_named() {
        let known = json!({ "pins": [pin("aa1", "waiting"), pin("bb1", "approved")] });
        assert_eq!(chosen(&known, None).unwrap()["pin"], "aa1");
        assert_eq!(chosen(&known, Some("bb")).unwrap()["pin"], "bb1");
        assert!(chosen(&known, Some("cc")).unwrap_err().to_string().contains("cc"));
        let two = json!({ "pins": [pin("aa1", "waiting"), pin("aa2", "waiting")] });
        for begins in [None, Some("aa")] {
            assert!(chosen(&two, begins).unwrap_err().to_string().contains("aa1, aa2"));
        }
    }

    #[test]
    fn a_change_is_shown_with_everything_that_hides_in_it() {
        let mut pin = pin("aa1", "waiting");
        pin["changes"] = json!([{ "at": "/description", "before": "Adds.", "after": "Adds.\u{202e}\u{200b}\u{1b}[8m" }]);
        pin["findings"] = json!(["bidirectional control at /description"]);
        assert_eq!(
            definition(&pin),
            "s__t  waiting\npin      aa1\nseen     1970-01-01 00:00 UTC\n\
             found    bidirectional control at /description\n  /description\n  - \"Adds.\"\n  \
             + \"Adds.\\u{202e}\\u{200b}\\u001b[8m\"\n"
        );
    }
}

//! `baton audit verify`: the audit log of a running system, checked record by record.

use anyhow::Context as _;
use reqwest::Method;
use serde::Deserialize;
use serde_json::json;

use super::client::Server;
use crate::cli::{Common, Failure};

#[derive(Deserialize)]
struct Page {
    records: Vec<Record>,
}

#[derive(Deserialize)]
struct Record {
    number: i64,
    record: String,
    hash: String,
}

/// The end of a chain: how many records, and the last one's hash.
#[derive(Debug, PartialEq, Eq)]
struct Chain {
    length: i64,
    head: Vec<u8>,
    /// A hash that has to be in it was seen.
    seen: bool,
}

impl Chain {
    /// Takes the next record.
    ///
    /// # Errors
    /// If it does not follow the one before.
    fn push(&mut self, next: &Record, wanted: Option<&str>) -> anyhow::Result<()> {
        let number = next.number;
        anyhow::ensure!(number == self.length + 1, "record {} is missing", self.length + 1);
        let hash = budget::chained(&self.head, &next.record);
        anyhow::ensure!(hex(&hash) == next.hash, "record {number} was changed, or one before it");
        self.seen |= wanted == Some(next.hash.as_str());
        (self.length, self.head) = (number, hash);
        Ok(())
    }
}

pub(crate) async fn verify(
    common: Common,
    server: Server,
    head: Option<String>,
) -> Result<(), Failure> {
    let wanted = head.as_deref();
    let mut chain = Chain { length: 0, head: vec![0; 32], seen: wanted.is_none() };
    loop {
        let path = format!("/api/v1/audit?after={}", chain.length);
        let page = server.ask(Method::GET, &path, None).await?;
        let page: Page = serde_json::from_value(page).context("no audit log")?;
        if page.records.is_empty() {
            break;
        }
        for record in &page.records {
            chain.push(record, wanted).context("the audit log is broken")?;
        }
    }
    if !chain.seen {
        return Err(anyhow::anyhow!("the audit log is broken: the given head is not in it").into());
    }
    let (length, head) = (chain.length, hex(&chain.head));
    match common.json {
        true => println!("{}", json!({ "records": length, "head": head })),
        false => println!("{length} records, unbroken; head {head}"),
    }
    Ok(())
}

fn hex(hash: &[u8]) -> String {
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn records(texts: &[&str]) -> Vec<Record> {
        let mut before = vec![0; 32];
        let record = |(at, text): (usize, &&str)| {
            before = budget::chained(&before, text);
            let number = i64::try_from(at).unwrap() + 1;
            Record { number, record: (*text).to_owned(), hash: hex(&before) }
        };
        texts.iter().enumerate().map(record).collect()
    }

    fn check(records: &[Record]) -> anyhow::Result<()> {
        let mut chain = Chain { length: 0, head: vec![0; 32], seen: true };
        records.iter().try_for_each(|record| chain.push(record, None))
    }

    #[test]
    fn a_record_that_was_changed_or_taken_out_is_found() {
        let mut log = records(&["a", "b", "c"]);
        check(&log).unwrap();
        log[1].record = "B".to_owned();
        assert!(check(&log).unwrap_err().to_string().starts_with("record 2 was changed"));
        let mut log = records(&["a", "b", "c"]);
        log.remove(1);
        assert_eq!(check(&log).unwrap_err().to_string(), "record 2 is missing");
    }
}

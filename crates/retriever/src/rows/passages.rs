//! The passages that a search shows.

use std::collections::HashMap;

use proto::retriever::Passage;

use super::{Rows, on_the_wire, read_attributes, read_headings};
use crate::Error;
use crate::database::Row;
use crate::index::Scope;

/// Passages that are named in a JSON array of `[document, position]`, whose elements are the rows of `$wanted`. These come
/// first: SQLite, which does not know how few they are, keeps to the order of a `CROSS JOIN`.
macro_rules! passages {
    ($wanted:literal) => {
        concat!(
            "SELECT p.document, p.position, d.source, p.headings, p.text, p.start, p.start_line, p.end_line,
             p.start_page, p.end_page, d.private, d.attributes FROM ",
            $wanted,
            " CROSS JOIN passages p CROSS JOIN documents d
             WHERE p.tenant = $2 AND p.document = w.value ->> 0 AND p.position = CAST(w.value ->> 1 AS BIGINT)
               AND d.tenant = p.tenant AND d.id = p.document AND d.collection = $3"
        )
    };
}

impl Rows {
    /// Returns those of the passages that are there, by their ids.
    pub(crate) async fn passages(
        &self,
        scope: &Scope,
        ids: &[String],
    ) -> Result<HashMap<String, Passage>, Error> {
        let wanted: Vec<(&str, i64)> = ids.iter().filter_map(|id| passage_of(id)).collect();
        let wanted = serde_json::to_string(&wanted).map_err(|fault| Error::Broken(fault.into()))?;
        let mut db = self.database.read().await?;
        let rows = db.query(db.either(
            passages!("json_each($1) w"),
            passages!("jsonb_array_elements(CAST($1 AS JSONB)) w (value)"),
        ));
        let rows = rows.bind(wanted).bind(scope.tenant.as_str()).bind(&scope.collection);
        let rows = rows.all().await?;
        let passage = |row: &Row| {
            let (document, text): (String, String) = (row.get(0)?, row.get(4)?);
            let id = passage_id(&document, row.get(1)?);
            let start = row.count(5)?;
            let passage = Passage {
                id: id.clone(),
                document_id: document,
                source: row.get(2)?,
                headings: read_headings(row.get(3)?)?,
                start,
                end: start + text.chars().count() as u64,
                text,
                start_line: row.number(6)?,
                end_line: row.number(7)?,
                start_page: row.number(8)?,
                end_page: row.number(9)?,
                private: row.get(10)?,
                attributes: on_the_wire(&read_attributes(row.get(11)?)?),
            };
            Ok((id, passage))
        };
        rows.iter().map(passage).collect()
    }
}

/// Returns a passage's id.
pub(crate) fn passage_id(document: &str, position: i64) -> String {
    format!("{document}-{position}")
}

fn passage_of(id: &str) -> Option<(&str, i64)> {
    let (document, position) = id.rsplit_once('-')?;
    Some((document, position.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_is_named_is_found_by_its_keys() {
        let directory = tempfile::tempdir().unwrap();
        let rows = Rows::fresh(directory.path()).await;
        let mut db = rows.database.read().await.unwrap();
        let plan = db.query(concat!("EXPLAIN QUERY PLAN ", passages!("json_each($1) w")));
        let plan = plan.bind(r#"[["d", 0]]"#).bind("t").bind("default").all().await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get(3).unwrap()).collect();
        let begins = ["SCAN w", "SEARCH p USING", "SEARCH d USING"];
        let fits = steps.iter().zip(begins).all(|(step, begin)| step.starts_with(begin));
        assert!(steps.len() == begins.len() && fits, "{steps:?}");
    }
}

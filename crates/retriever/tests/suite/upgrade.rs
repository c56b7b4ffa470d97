//! What was stored by a version before is as it was.

use std::borrow::Cow;
use std::path::Path;

use proto::retriever::{GetDocumentRequest, ListEntriesRequest, SearchRequest};
use sqlx::migrate::Migrator;
use sqlx::{PgPool, SqlitePool};

use super::{ADDRESS, Caller, open, over_each, request};

/// What a version before left: a document, and a job and a re-index of which one document each failed.
const LEFT: [&str; 7] = [
    "INSERT INTO collections (tenant, name, model, dimension, created_at) VALUES ('a', 'default', '', 0, 1)",
    "INSERT INTO jobs (tenant, id, collection, created_at, \"user\") VALUES ('a', 'job_1', 'default', 1, 'u')",
    "INSERT INTO jobs (tenant, id, collection, created_at, \"user\", model) VALUES ('a', 'job_2', 'default', 1, 'u', 'm')",
    "INSERT INTO tasks (tenant, job, source, media_type, attributes, state, reason, document, attempts, lease, due_at, updated_at)
     VALUES ('a', 'job_1', 'a.md', '', '{}', 'failed', 'is not UTF-8', '', 1, '', 1, 1)",
    "INSERT INTO tasks (tenant, job, source, media_type, attributes, state, reason, document, attempts, lease, due_at, updated_at)
     VALUES ('a', 'job_2', 'b.md', '', '{}', 'failed', 'no vectors', 'b', 1, '', 1, 1)",
    "INSERT INTO documents (tenant, id, collection, source, media_type, sha256, text, characters, passages, updated_at, private, attributes)
     VALUES ('a', 'c', 'default', 'c.md', 'text/markdown', '', 'A pear tree.', 12, 1, 1, FALSE, '{}')",
    "INSERT INTO passages (tenant, document, position, headings, text, start, start_line, end_line, start_page, end_page)
     VALUES ('a', 'c', 0, '[]', 'A pear tree.', 0, 1, 1, 0, 0)",
];

/// Returns the migrations that there were.
fn before(all: &Migrator, last: i64) -> Migrator {
    let first = all.iter().filter(|one| one.version <= last).cloned().collect();
    Migrator { migrations: Cow::Owned(first), ..Migrator::DEFAULT }
}

over_each!(what_a_version_before_left_is_listed_and_found);
async fn what_a_version_before_left_is_listed_and_found(directory: &Path) {
    match std::fs::read_to_string(directory.join(ADDRESS)) {
        Ok(address) => {
            let pool = PgPool::connect(&address).await.unwrap();
            let mut migrations = before(&sqlx::migrate!("migrations/postgres"), 1);
            migrations.dangerous_set_table_name("retriever_migrations");
            migrations.run(&pool).await.unwrap();
            for one in LEFT {
                sqlx::query(one).execute(&pool).await.unwrap();
            }
            pool.close().await;
        }
        Err(_) => {
            let file = directory.join("documents.db");
            let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
            let pool = SqlitePool::connect_with(options.create_if_missing(true)).await.unwrap();
            before(&sqlx::migrate!("migrations/sqlite"), 11).run(&pool).await.unwrap();
            for one in LEFT {
                sqlx::query(one).execute(&pool).await.unwrap();
            }
            pool.close().await;
        }
    }
    let mut caller = Caller::new(&open(directory).await, "a");
    let message = request(&caller.context, ListEntriesRequest::default());
    let listed = caller.client.list_entries(message).await.unwrap().into_inner().entries;
    let mut shown: Vec<_> =
        listed.iter().map(|one| (one.source.as_str(), one.reason.as_str())).collect();
    shown.sort_unstable();
    assert_eq!(shown, [("a.md", "is not UTF-8"), ("c.md", "")]);

    let message = GetDocumentRequest { id: "c".to_owned(), ..GetDocumentRequest::default() };
    let read = caller.client.get_document(request(&caller.context, message)).await.unwrap();
    assert_eq!(read.into_inner().text, "A pear tree.");
    let message = SearchRequest { query: "pears".to_owned(), ..SearchRequest::default() };
    let found = caller.client.search(request(&caller.context, message)).await.unwrap().into_inner();
    let texts: Vec<_> = found.hits.into_iter().filter_map(|hit| Some(hit.passage?.text)).collect();
    assert_eq!(texts, ["A pear tree."]);
}

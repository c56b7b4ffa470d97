//! What every store does.

use std::sync::Arc;

use mcp_memory::graph::{Added, Change, Changed, Deletion, Query, Which};
use mcp_memory::{Config, Error, Postgres, Rules, Sqlite, Store};
use sqlx::Connection as _;

use crate::support::{Hands, adding, all, entity, named, names, read, relation, tenant};

/// Two days for notes and ten for what is restored, little in one answer, and keys if given.
fn rules(clock: &Arc<Hands>, keys: &[&str]) -> Rules {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), keys.join("\n")).unwrap();
    let config = Config {
        key_file: (!keys.is_empty()).then(|| file.path().to_owned()),
        retention_days: [("note".to_owned(), 2)].into(),
        deleted_days: 10,
        max_items: 20,
        max_bytes: 100_000,
        ..Config::default()
    };
    Rules::new(&config, clock.clone()).unwrap()
}

async fn contract(store: Arc<dyn Store>, clock: &Hands) {
    let s = store.as_ref();
    let (a, b) = (tenant("a"), tenant("b"));
    let create = |all: &[_]| Change::CreateEntities(all.to_vec());
    let ada = entity("Ada", "person", &["likes %", "likes %", "Ü"]);
    let bob = entity("Bob", "person", &[]);

    // Only what is new is made, and nothing twice, also of one call.
    let made = s.change(&a, &create(&[ada.clone(), bob.clone(), bob.clone()])).await.unwrap();
    let ada = entity("Ada", "person", &["likes %", "Ü"]);
    assert_eq!(made, Changed::Entities(vec![ada.clone(), bob.clone()]));
    let again = s.change(&a, &create(&[entity("Ada", "ship", &["x"])])).await.unwrap();
    assert_eq!(again, Changed::Entities(vec![]));
    let knows = relation("Ada", "knows", "Bob");
    let relate = Change::CreateRelations(vec![knows.clone(), knows.clone()]);
    assert_eq!(s.change(&a, &relate).await.unwrap(), Changed::Relations(vec![knows.clone()]));
    assert_eq!(s.change(&a, &relate).await.unwrap(), Changed::Relations(vec![]));
    let added = s.change(&a, &adding("Bob", &["1", "2", "1"])).await.unwrap();
    let new = Added { entity_name: "Bob".to_owned(), added_observations: names(&["1", "2"]) };
    assert_eq!(added, Changed::Observations(vec![new]));
    let bob = entity("Bob", "person", &["1", "2"]);
    let page = all(s, &a).await;
    assert_eq!(
        (page.entities, page.relations),
        (vec![ada.clone(), bob.clone()], vec![knows.clone()])
    );

    // Nothing dangles, and a call is done whole or not at all.
    for (change, missing) in [
        (
            Change::CreateRelations(vec![
                relation("Bob", "knows", "Ada"),
                relation("Ada", "is", "Eve"),
            ]),
            "Eve",
        ),
        (Change::CreateRelations(vec![relation("Eve", "is", "Ada")]), "Eve"),
        (adding("Eve", &["x"]), "Eve"),
        (Change::RestoreEntities(names(&["Ada", "Eve"])), "Eve"),
    ] {
        let refused = s.change(&a, &change).await;
        assert!(matches!(&refused, Err(Error::Missing(name)) if name == missing), "{refused:?}");
    }
    assert_eq!(all(s, &a).await.relations, std::slice::from_ref(&knows));

    // A tenant sees nothing of another's, and has its own of the same names.
    assert_eq!(all(s, &b).await.entities, []);
    s.change(&b, &create(&[entity("Ada", "cat", &["likes %"])])).await.unwrap();
    assert!(s.change(&b, &relate).await.is_err(), "no end of another tenant's");
    s.change(&b, &Change::DeleteEntities(names(&["Ada", "Bob"]))).await.unwrap();
    assert_eq!(named(&all(s, &a).await), ["Ada", "Bob"]);
    assert!(
        matches!(s.change(&a, &Change::RestoreEntities(names(&["Ada"]))).await, Ok(Changed::Entities(none)) if none.is_empty())
    );

    // Found by name, type or observation, whatever the case; what stands for anything is itself.
    for (text, wanted) in [
        ("ADA", &["Ada"][..]),
        ("pers", &["Ada", "Bob"]),
        ("ü", &["Ada"]),
        ("%", &["Ada"]),
        ("_", &[]),
        ("", &["Ada", "Bob"]),
        ("2", &["Bob"]),
    ] {
        let page = read(s, &a, Which::Matching(text.to_owned())).await.unwrap();
        assert_eq!(named(&page), wanted, "{text:?}");
        assert_eq!(page.relations.len(), usize::from(!wanted.is_empty()));
    }
    let opened = read(s, &a, Which::Named(names(&["Bob", "Eve", "Bob"]))).await.unwrap();
    assert_eq!((opened.entities, opened.relations), (vec![bob.clone()], vec![knows.clone()]));

    // What is deleted is gone with its relations, and comes back with them.
    let gone = s.change(&a, &Change::DeleteEntities(names(&["Bob", "Eve"]))).await.unwrap();
    assert_eq!(gone, Changed::Deleted { count: 1, missing: names(&["entity 'Eve'"]) });
    let page = all(s, &a).await;
    assert_eq!((page.entities, page.relations), (vec![ada.clone()], vec![]));
    let back = s.change(&a, &Change::RestoreEntities(names(&["Bob"]))).await.unwrap();
    assert_eq!(back, Changed::Entities(vec![bob.clone()]));
    assert_eq!(all(s, &a).await.relations, std::slice::from_ref(&knows));
    // A name is free at once; what it stood for before then stays where it is.
    s.change(&a, &Change::DeleteEntities(names(&["Bob"]))).await.unwrap();
    s.change(&a, &create(&[entity("Bob", "robot", &[])])).await.unwrap();
    assert_eq!(all(s, &a).await.relations, []);
    s.change(&a, &Change::RestoreEntities(names(&["Bob"]))).await.unwrap();
    assert_eq!(all(s, &a).await.entities[1], entity("Bob", "robot", &[]));

    // Observations and relations.
    s.change(&a, &relate).await.unwrap();
    let forget = Change::DeleteObservations(vec![
        Deletion { entity_name: "Ada".to_owned(), observations: names(&["Ü", "nothing"]) },
        Deletion { entity_name: "Eve".to_owned(), observations: names(&["x"]) },
    ]);
    let missing = names(&["an observation of 'Ada'", "entity 'Eve'"]);
    assert_eq!(s.change(&a, &forget).await.unwrap(), Changed::Deleted { count: 1, missing });
    let part = Change::DeleteRelations(vec![relation("Ada", "is", "Bob"), knows.clone()]);
    let missing = names(&["relation 'Ada' is 'Bob'"]);
    assert_eq!(s.change(&a, &part).await.unwrap(), Changed::Deleted { count: 1, missing });
    let page = all(s, &a).await;
    assert_eq!(
        (&page.entities[0], page.relations),
        (&entity("Ada", "person", &["likes %"]), vec![])
    );

    pages(s).await;
    limits(s).await;
    retention(s, clock).await;
    at_once(&store).await;
}

/// A graph of 25, and 20 in one answer.
async fn pages(s: &dyn Store) {
    let c = tenant("pages");
    for n in 0..25 {
        let change = Change::CreateEntities(vec![entity(&format!("e{n}"), "thing", &["seen"])]);
        s.change(&c, &change).await.unwrap();
        let next = Change::CreateRelations(vec![relation(&format!("e{n}"), "is", "e0")]);
        s.change(&c, &next).await.unwrap();
    }
    for which in [Which::All, Which::Matching("SEEN".to_owned())] {
        let whole = read(s, &c, which.clone()).await;
        assert!(matches!(whole, Err(Error::TooMuch { limit: 20, .. })), "{whole:?}");
    }
    for which in [
        Which::All,
        Which::Matching("seen".to_owned()),
        Which::Named((0..25).map(|n| format!("e{n}")).collect()),
    ] {
        let (mut entities, mut relations, mut cursor) = (Vec::new(), Vec::new(), 0);
        loop {
            let query = Query { which: which.clone(), limit: Some(10), cursor };
            // The first of all is an end of every relation.
            let page = match s.read(&c, &query).await {
                Err(Error::TooMuch { what: "relations", .. }) => break,
                page => page.unwrap(),
            };
            assert!(page.entities.len() <= 10);
            entities.extend(page.entities.into_iter().map(|one| one.name));
            relations.extend(page.relations);
            match page.next_cursor {
                Some(next) => cursor = next.parse().unwrap(),
                None => break,
            }
        }
        if which == Which::All {
            assert_eq!(entities, (0..25).map(|n| format!("e{n}")).collect::<Vec<_>>());
            assert_eq!(relations.len(), 25, "each of them once");
        }
    }
    // A page ends early when it has many bytes, and no earlier than with one entity.
    let d = tenant("long");
    for n in 0..4 {
        let name = format!("e{n}");
        s.change(&d, &Change::CreateEntities(vec![entity(&name, "thing", &[])])).await.unwrap();
        let contents: Vec<String> = (0..5).map(|m| format!("{m}{}", "x".repeat(16_000))).collect();
        let contents: Vec<&str> = contents.iter().map(String::as_str).collect();
        s.change(&d, &adding(&name, &contents)).await.unwrap();
    }
    assert!(matches!(read(s, &d, Which::All).await, Err(Error::TooMuch { what: "bytes", .. })));
    let page = s.read(&d, &Query { which: Which::All, limit: Some(4), cursor: 0 }).await.unwrap();
    assert!(page.entities.len() == 1 && page.next_cursor.is_some());
}

async fn limits(s: &dyn Store) {
    let a = tenant("limits");
    let long = "x".repeat(257);
    let create = |all: &[_]| Change::CreateEntities(all.to_vec());
    for (change, wanted) in [
        (create(&[entity("", "t", &[])]), "/entities/0/name: a name has 1 to 256 characters"),
        (create(&[entity(" ", "t", &[])]), "/entities/0/name"),
        (create(&[entity("a", "t", &[]), entity(&long, "t", &[])]), "/entities/1/name"),
        (create(&[entity("a\nb", "t", &[])]), "/entities/0/name: a name has no control characters"),
        (create(&[entity("a", "", &[])]), "/entities/0/entityType"),
        (create(&[entity("a", "t", &["x", ""])]), "/entities/0/observations/1"),
        (create(&[entity("a", "t", &["x\0"])]), "/entities/0/observations/0"),
        (create(&[entity("a", "t", &[&"x".repeat(16 * 1024 + 1)])]), "1 to 16384 bytes"),
        (create(&vec![entity("a", "t", &[]); 101]), "/entities: 101 are more than 100"),
        (adding("a", &["x"; 101]), "/observations/0/contents: 101 are more than 100"),
        (Change::CreateRelations(vec![relation("a", "", "b")]), "/relations/0/relationType"),
        (Change::DeleteEntities(names(&["a", ""])), "/entityNames/1"),
    ] {
        let told = s.change(&a, &change).await.unwrap_err().to_string();
        assert!(told.contains(wanted), "{told}");
    }
    for limit in [0, 21] {
        let query = Query { which: Which::All, limit: Some(limit), cursor: 0 };
        assert!(matches!(s.read(&a, &query).await, Err(Error::Invalid(_))));
    }
    assert_eq!(all(s, &a).await.entities, []);
    let longest = entity(&"ü".repeat(256), "t", &[&"x".repeat(16 * 1024)]);
    s.change(&a, &create(std::slice::from_ref(&longest))).await.unwrap();
    assert_eq!(all(s, &a).await.entities, [longest]);
}

async fn retention(s: &dyn Store, clock: &Hands) {
    let e = tenant("retention");
    let three =
        [entity("old", "note", &[]), entity("used", "note", &[]), entity("kept", "fact", &[])];
    s.change(&e, &Change::CreateEntities(three.to_vec())).await.unwrap();
    clock.move_days(2);
    s.change(&e, &adding("used", &["again"])).await.unwrap();
    assert_eq!(s.sweep().await.unwrap(), 0, "it is kept two days");
    clock.move_days(1);
    assert_eq!(s.sweep().await.unwrap(), 1);
    assert_eq!(named(&all(s, &e).await), ["used", "kept"]);
    clock.move_days(1);
    s.change(&e, &Change::RestoreEntities(names(&["old"]))).await.unwrap();
    assert_eq!(named(&all(s, &e).await), ["old", "used", "kept"]);
    s.change(&e, &Change::DeleteEntities(names(&["old", "kept"]))).await.unwrap();
    clock.move_days(11);
    let late = s.change(&e, &Change::RestoreEntities(names(&["kept"]))).await;
    assert!(matches!(late, Err(Error::Missing(_))), "it is over, swept or not");
    assert!(s.sweep().await.unwrap() >= 3);
    assert_eq!(named(&all(s, &e).await), Vec::<&str>::new());
}

/// Many at once make the same: each thing is made once.
async fn at_once(store: &Arc<dyn Store>) {
    let f = tenant("at once");
    let works = (0..20).map(|n| {
        let (store, f) = (Arc::clone(store), f.clone());
        tokio::spawn(async move {
            // In one order and in the other.
            let mut both = vec![entity("x", "t", &["same"]), entity("y", "t", &[])];
            if n % 2 == 0 {
                both.reverse();
            }
            store.change(&f, &Change::CreateEntities(both)).await.unwrap();
            let own = format!("{n}");
            store.change(&f, &adding("x", &["same", &own])).await.unwrap();
            let relate = Change::CreateRelations(vec![relation("x", "is", "y")]);
            store.change(&f, &relate).await.unwrap();
        })
    });
    for work in works.collect::<Vec<_>>() {
        work.await.unwrap();
    }
    let page = all(store.as_ref(), &f).await;
    assert_eq!((page.entities.len(), page.relations.len()), (2, 1));
    let x = page.entities.iter().find(|one| one.name == "x").unwrap();
    assert_eq!(x.observations.len(), 21);
}

const KEY: &str = "0101010101010101010101010101010101010101010101010101010101010101";
const NEW: &str = "0202020202020202020202020202020202020202020202020202020202020202";

#[tokio::test]
async fn sqlite_keeps_the_contract_with_and_without_a_key() {
    for keys in [&[][..], &[KEY]] {
        let directory = tempfile::tempdir().unwrap();
        let clock = Hands::start();
        let path = directory.path().join("deep/memory.db");
        let store = Sqlite::open(path, rules(&clock, keys)).await.unwrap();
        contract(Arc::new(store), &clock).await;
    }
}

#[tokio::test]
async fn postgres_keeps_the_contract_with_and_without_a_key() {
    let server = testkit::Postgres::start().unwrap();
    for (name, keys) in [("plain", &[][..]), ("sealed", &[KEY])] {
        let (clock, url) = (Hands::start(), server.database(name).unwrap());
        // A second replica finds everything made.
        Postgres::open(&url, 1, rules(&clock, keys)).await.unwrap();
        let store = Postgres::open(&url, 8, rules(&clock, keys)).await.unwrap();
        contract(Arc::new(store), &clock).await;
    }
}

#[tokio::test]
async fn what_is_sealed_is_not_read_without_its_key_and_keys_are_rotated() {
    let directory = tempfile::tempdir().unwrap();
    let (clock, a) = (Hands::start(), tenant("a"));
    let path = directory.path().join("memory.db");
    let open = async |keys: &[&str]| Sqlite::open(&path, rules(&clock, keys)).await.unwrap();
    let store = open(&[]).await;
    let ada = entity("Ada", "person", &["a plain secret"]);
    store.change(&a, &Change::CreateEntities(vec![ada])).await.unwrap();
    drop(store);

    let store = open(&[KEY]).await;
    assert_eq!(store.reseal().await.unwrap(), 1);
    assert_eq!(store.reseal().await.unwrap(), 0);
    store.change(&a, &adding("Ada", &["a plain secret", "a sealed secret"])).await.unwrap();
    let wanted = entity("Ada", "person", &["a plain secret", "a sealed secret"]);
    assert_eq!(all(&store, &a).await.entities, std::slice::from_ref(&wanted));
    drop(store);

    for keys in [&[][..], &[NEW]] {
        let store = open(keys).await;
        assert!(matches!(read(&store, &a, Which::All).await, Err(Error::Sealed)));
        assert!(matches!(store.reseal().await, Err(Error::Sealed)) || keys.is_empty());
    }
    let store = open(&[NEW, KEY]).await;
    assert_eq!(store.reseal().await.unwrap(), 2);
    drop(store);
    let store = open(&[NEW]).await;
    assert_eq!(all(&store, &a).await.entities, [wanted]);
    let found = read(&store, &a, Which::Matching("SEALED".to_owned())).await.unwrap();
    assert_eq!(named(&found), ["Ada"]);
    let gone = Change::DeleteObservations(vec![Deletion {
        entity_name: "Ada".to_owned(),
        observations: names(&["a sealed secret"]),
    }]);
    assert!(matches!(store.change(&a, &gone).await, Ok(Changed::Deleted { count: 1, .. })));
    store.change(&a, &adding("Ada", &["a sealed secret"])).await.unwrap();
    drop(store);
    for name in ["memory.db", "memory.db-wal"] {
        let bytes = std::fs::read(directory.path().join(name)).unwrap_or_default();
        let has = |text: &[u8]| bytes.windows(text.len()).any(|part| part == text);
        assert!(!has(b"sealed secret"), "{name}");
    }
}

#[tokio::test]
async fn row_security_keeps_tenants_apart_whatever_a_statement_asks_for() {
    let server = testkit::Postgres::start().unwrap();
    let mut admin = sqlx::PgConnection::connect(&server.url()).await.unwrap();
    for statement in ["CREATE ROLE app LOGIN", "CREATE DATABASE memory OWNER app"] {
        sqlx::query(statement).execute(&mut admin).await.unwrap();
    }
    let url = server.url().replace("baton@", "app@");
    let url = format!("{}/memory", url.strip_suffix("/postgres").unwrap());
    let store = Postgres::open(&url, 2, rules(&Hands::start(), &[])).await.unwrap();
    for name in ["a", "b"] {
        let two = vec![entity("x", "t", &["secret"]), entity("y", "t", &[])];
        store.change(&tenant(name), &Change::CreateEntities(two)).await.unwrap();
        let relate = Change::CreateRelations(vec![relation("x", "is", "y")]);
        store.change(&tenant(name), &relate).await.unwrap();
    }
    assert_eq!(named(&all(&store, &tenant("a")).await), ["x", "y"]);

    let mut app = sqlx::PgConnection::connect(&url).await.unwrap();
    for (table, its) in
        [("memory_entities", 2), ("memory_observations", 1), ("memory_relations", 1)]
    {
        let count = format!("SELECT count(*) FROM {table}");
        for (of, wanted) in [("", 0), ("nobody", 0), ("a", its)] {
            let mut tx = app.begin().await.unwrap();
            let set = "SELECT set_config('baton.tenant', $1, true)";
            sqlx::query(set).bind(of).execute(&mut *tx).await.unwrap();
            let count = sqlx::AssertSqlSafe(count.clone());
            let (count,): (i64,) = sqlx::query_as(count).fetch_one(&mut *tx).await.unwrap();
            assert_eq!(count, wanted, "{table} of {of:?}");
        }
    }
    let mut tx = app.begin().await.unwrap();
    sqlx::query("SELECT set_config('baton.tenant', 'a', true)").execute(&mut *tx).await.unwrap();
    let theirs = "INSERT INTO memory_entities (tenant, name, entity_type, made_at, changed_at)
                  VALUES ('b', 'z', 't', 0, 0)";
    let refused = sqlx::query(theirs).execute(&mut *tx).await.unwrap_err().to_string();
    assert!(refused.contains("row-level security"), "{refused}");
}

//! One contract for every place where keys are kept.

use std::sync::Arc;

use budget::keys::{Found, Key, Rates, Secret, State, Terms};
use budget::{Error, Keys, Postgres, Rules, Sqlite};
use types::{Clock, KeyId, Privacy, Role, TenantId, UserId};

use super::{Hands, NOON, POOL, tenant};

fn terms(name: &str) -> Terms {
    Terms {
        name: name.to_owned(),
        user: UserId::new("u").unwrap(),
        team: None,
        role: Role::Member,
        models: Some(vec!["auto".to_owned(), "ollama/*".to_owned()]),
        tools: Some(Vec::new()),
        collections: None,
        privacy: Privacy::Private,
        cache: false,
        rates: Rates { requests: 5.try_into().ok(), ..Rates::default() },
        expires_at: Some(NOON + 10_000),
    }
}

fn key(name: &str, secret: &Secret) -> Key {
    Key {
        id: KeyId::generate(),
        tenant: tenant(),
        terms: terms(name),
        begins: secret.begins().to_owned(),
        created_at: NOON,
        rotated_at: None,
        old_until: None,
        revoked_at: None,
    }
}

async fn contract(keys: &dyn Keys) {
    let secrets = [(); 4].map(|()| Secret::generate().unwrap());
    let [first, second, third, fourth] = &secrets;
    let (one, two) = (key("one", first), key("two", second));
    keys.add(&one, &first.hash()).await.unwrap();
    keys.add(&two, &second.hash()).await.unwrap();
    let state = async |secret: &Secret, now: i64| -> Option<State> {
        keys.look_up(&secret.hash()).await.unwrap().map(|found| found.state(now))
    };

    // What was kept is what is read, by its tenant alone.
    assert_eq!(keys.read(&tenant(), &one.id).await.unwrap(), one);
    let foreign = TenantId::new("other").unwrap();
    assert!(matches!(keys.read(&foreign, &one.id).await, Err(Error::NoKey(id)) if id == one.id));
    assert!(!keys.revoke(&foreign, &one.id, NOON).await.unwrap());
    assert!(!keys.rotate(&foreign, &one.id, third, NOON, NOON).await.unwrap());
    assert!(!keys.change(&foreign, &one.id, &one.terms, &two.terms).await.unwrap());
    assert_eq!(keys.list(&foreign, "", 10).await.unwrap(), []);
    assert_eq!(keys.list(&tenant(), "", 10).await.unwrap(), [one.clone(), two.clone()]);
    assert_eq!(keys.list(&tenant(), "", 1).await.unwrap(), std::slice::from_ref(&one));
    assert_eq!(
        keys.list(&tenant(), one.id.as_str(), 10).await.unwrap(),
        std::slice::from_ref(&two)
    );

    // A secret is found by its hash, until its key ends.
    let found = Found { key: one.clone(), old: false };
    assert_eq!(keys.look_up(&first.hash()).await.unwrap(), Some(found));
    assert_eq!(state(first, NOON).await, Some(State::Good));
    assert_eq!(state(first, NOON + 10_000).await, Some(State::Expired));
    assert_eq!(state(third, NOON).await, None);

    // Of two who change the same, one has to look again.
    let (left, right) = (terms("left"), Terms { expires_at: None, ..terms("right") });
    assert!(keys.change(&tenant(), &one.id, &one.terms, &left).await.unwrap());
    assert!(!keys.change(&tenant(), &one.id, &one.terms, &right).await.unwrap());
    assert!(keys.change(&tenant(), &one.id, &left, &right).await.unwrap());
    assert_eq!(keys.read(&tenant(), &one.id).await.unwrap().terms, right);

    // The secret before is good for a while, and the one before that no more.
    assert!(keys.rotate(&tenant(), &one.id, third, NOON + 1, NOON + 100).await.unwrap());
    assert_eq!(state(third, NOON + 99).await, Some(State::Good));
    assert_eq!(state(first, NOON + 99).await, Some(State::Good));
    assert_eq!(state(first, NOON + 100).await, Some(State::Replaced));
    assert!(keys.rotate(&tenant(), &one.id, fourth, NOON + 2, NOON + 100).await.unwrap());
    assert_eq!(state(first, NOON + 3).await, None);
    assert_eq!(state(third, NOON + 3).await, Some(State::Good));
    assert_eq!(state(fourth, NOON + 200).await, Some(State::Good));
    let rotated = keys.read(&tenant(), &one.id).await.unwrap();
    assert_eq!(
        (rotated.rotated_at, rotated.old_until, rotated.begins.as_str()),
        (Some(NOON + 2), Some(NOON + 100), fourth.begins())
    );

    // Revoked is revoked: both secrets, from then on, whatever is tried.
    for now in [NOON + 5, NOON + 6] {
        assert!(keys.revoke(&tenant(), &one.id, now).await.unwrap());
    }
    assert_eq!(keys.read(&tenant(), &one.id).await.unwrap().revoked_at, Some(NOON + 5));
    assert_eq!(state(third, NOON + 6).await, Some(State::Revoked));
    assert_eq!(state(fourth, NOON + 6).await, Some(State::Revoked));
    let again = Secret::generate().unwrap();
    assert!(!keys.rotate(&tenant(), &one.id, &again, NOON + 7, NOON + 8).await.unwrap());
    assert!(!keys.change(&tenant(), &one.id, &right, &left).await.unwrap());
    assert_eq!(state(second, NOON).await, Some(State::Good));
}

fn clock() -> Arc<dyn Clock> {
    Arc::new(Hands(NOON.into()))
}

#[tokio::test]
async fn sqlite_keeps_keys() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("ledger.db");
    contract(&Sqlite::open(&file, Rules::default(), clock()).await.unwrap()).await;
}

#[tokio::test]
async fn postgres_keeps_keys() {
    let server = testkit::Postgres::start().unwrap();
    let store = Postgres::open(&server.url(), None, POOL, Rules::default(), clock()).await.unwrap();
    contract(&store).await;
}

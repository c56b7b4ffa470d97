use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use serde_json::{Value, json};
use testkit::token::{Signer, base64};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;
use types::{ErrorKind, Role};

use super::*;
use crate::issuers::LONGEST;

/// A public key, and a token until the year 2286 whose private key is gone.
const RSA: &str = "wTezxI28O6VYh-ipb26g-Hj623nkzCSmE5D2FKNqpN7s5WdRCKfoc1dv78JiY3wLsvy2nkzojUHk86Q36ojLAbbP\
     PYT5OCBwqGs145JSMpmqYzKbCa-O-JQV68hNXOAycc6Fbh-PgdIcwdJeAxPMZ6aKLQ7SemGmZ0IdCYiPylm_gk88\
     gPwJukeMiN7J7hIyJUY8q1V5Vi7k-4ofW8hlzhfc6bVyMoM6Meq6-EpOGDEKkMc-iMa7GYyAVhIvF7rfl3a8AX73\
     A1QxKP0GO3i13FIuxsknaegd84PXJ05vsJsLxtFiU92zJTkO7_RVawMAbLAwX94PErccCjSarYQbfQ";
const RSA_TOKEN: &str = "eyJhbGciOiJSUzI1NiIsImtpZCI6InJzYSJ9.eyJpc3MiOiJodHRwczovL2lkIiwiYXVkIjoiYmF0b24iLCJleHA\
     iOjk5OTk5OTk5OTksInN1YiI6ImFubiIsInJvbGUiOiJtZW1iZXIifQ.Dt-r1a-tGMs6tBtM61tG42eRDvt1UBcm\
     tS6fjXNKc464z6swmxIiLFgus96LSSfzCZKE56Qe5P4VVJfJ9IRmK-mchgc13PEKPaH1TlwrfTaGkw1i8Eeq4zTB\
     -ivTLWvYXfExhgQ2WKVhWpgaXiwB2yl90ZyD3YtBuxrgBajTbCcvdRLOPA3FFn9crpHh3vPM3HapwQuIu7tBCAGN\
     m3qt0EhFTS_3tWeMe-DpVJBnYGgZEMNA3p574mFhKTJMsMTwDJcJXWm6QXVYn_5feL1MmuL9drNE1vSh6L23pAKP\
     2oLykER8wKSG45Obmfh66VyGwMrHoEBUlhMtxSsEKwXXzQ";

fn issuers(jwks: &str) -> Issuers {
    let config = json!({ "issuer": "https://id", "audience": ["baton"], "jwks": jwks, "tenant": "acme",
        "role_claim": "role", "leeway_s": 5, "refresh_floor_ms": 1000 });
    let config = serde_json::from_value(config).unwrap();
    Issuers::new("gateway.jwt", &BTreeMap::from([("id".to_owned(), config)])).unwrap()
}

fn write(file: &Path, keys: &[Value]) {
    std::fs::write(file, json!({ "keys": keys }).to_string()).unwrap();
}

/// Good claims, with others over them.
fn claims(more: &Value) -> Value {
    let now = jsonwebtoken::get_current_timestamp();
    let mut claims = json!({ "iss": "https://id", "aud": ["x", "baton"], "exp": now + 60,
        "sub": "ann", "role": "member" });
    claims.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    claims
}

#[tokio::test]
async fn a_token_is_taken_by_any_kind_of_key_and_refused_for_what_is_wrong() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let (ed, ec, stranger) = (Signer::ed(), Signer::ec(), Signer::ed());
    let symmetric = json!({ "kty": "oct", "kid": "hs", "k": base64(b"secret") });
    let odd = json!({ "kty": "EC", "crv": "secp256k1", "kid": "odd", "x": "AA", "y": "AA" });
    let rsa = json!({ "kty": "RSA", "kid": "rsa", "alg": "RS256", "n": RSA, "e": "AQAB" });
    write(&file, &[ed.public("ed"), ec.public("ec"), rsa, symmetric, odd, json!(7)]);
    let issuers = issuers(file.to_str().unwrap());
    let header = |alg: &str, kid: &str| json!({ "alg": alg, "kid": kid });
    for token in [
        ed.token(&header("EdDSA", "ed"), &claims(&json!({}))),
        ec.token(&header("ES256", "ec"), &claims(&json!({ "aud": "baton" }))),
        ed.token(&json!({ "alg": "EdDSA" }), &claims(&json!({}))),
        RSA_TOKEN.to_owned(),
    ] {
        let found = issuers.find(&token).await.unwrap();
        assert_eq!((found.user.as_str(), found.role), ("ann", Role::Member));
        assert_eq!(found.tenant.as_str(), "acme");
    }

    let now = jsonwebtoken::get_current_timestamp();
    let good = claims(&json!({}));
    let signed = |more: Value| ed.token(&header("EdDSA", "ed"), &claims(&more));
    let mut without = good.clone();
    without.as_object_mut().unwrap().remove("exp");
    let forged = signed(json!({}));
    let cut = &forged[..forged.len() - 4];
    let unsigned = ed.token(&json!({ "alg": "none" }), &good);
    for (token, told) in [
        (signed(json!({ "exp": now - 6 })), "has expired"),
        (signed(json!({ "nbf": now + 60 })), "is not valid yet"),
        (signed(json!({ "aud": "other" })), "is for another audience"),
        (signed(json!({ "iss": "https://evil" })), "is of \"https://evil\""),
        (signed(json!({ "sub": null })), "no text as claim `sub`"),
        (signed(json!({ "exp": "soon" })), "claim `exp`"),
        (ed.token(&header("EdDSA", "ed"), &without), "no claim `exp`"),
        (stranger.token(&header("EdDSA", "ed"), &good), "a signature that is not"),
        (ed.token(&header("ES256", "ed"), &good), "with key \"ed\""),
        (ed.token(&header("EdDSA", "ec"), &good), "with key \"ec\""),
        (ed.token(&header("EdDSA", "none"), &good), "with key \"none\""),
        (ed.token(&header("HS256", "hs"), &good), "HS256; RS256, ES256 and EdDSA"),
        (ed.token(&json!({ "alg": "EdDSA", "kid": "ed", "crit": ["x"] }), &good), "crit"),
        (unsigned, "signed otherwise"),
        (cut.to_owned(), ""),
        ("a.b.c".to_owned(), "malformed"),
        ("..".to_owned(), "malformed"),
        (format!("{}.a.b", "x".repeat(LONGEST)), "too long"),
    ] {
        let fault = issuers.find(&token).await.unwrap_err();
        assert_eq!(types::Classify::kind(&fault), ErrorKind::Unauthenticated, "{fault}");
        assert!(fault.to_string().contains(told), "{fault} is not: {told}");
    }
    assert!(issuers.find(&signed(json!({ "exp": now - 3 }))).await.is_ok(), "within the leeway");
}

#[tokio::test]
async fn keys_are_looked_for_again_when_one_is_unknown_but_not_for_every_token() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("keys.json");
    let issuers = issuers(file.to_str().unwrap());
    let (old, new) = (Signer::ed(), Signer::ed());
    let token = |pair: &Signer, id: &str| {
        pair.token(&json!({ "alg": "EdDSA", "kid": id }), &claims(&json!({})))
    };
    let kind = |fault: Error| types::Classify::kind(&fault);
    // There are none yet: nobody can say that the token is bad.
    let away = issuers.find(&token(&old, "old")).await.unwrap_err();
    assert_eq!(kind(away), ErrorKind::Unavailable);
    write(&file, &[old.public("old")]);
    let within = issuers.find(&token(&old, "old")).await.unwrap_err();
    assert_eq!(kind(within), ErrorKind::Unavailable, "it was looked for just now");
    let taken = async |pair: &Signer, id: &str| {
        while issuers.find(&token(pair, id)).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taken(&old, "old")).await.unwrap();
    write(&file, &[new.public("new")]);
    assert!(issuers.find(&token(&old, "old")).await.is_ok(), "what is known is not looked for");
    tokio::time::timeout(Duration::from_secs(10), taken(&new, "new")).await.unwrap();
    let gone = issuers.find(&token(&old, "old")).await.unwrap_err();
    assert_eq!(kind(gone), ErrorKind::Unauthenticated);
}

#[tokio::test]
async fn keys_are_fetched_from_an_address_once() {
    let (pair, listener) = (Signer::ed(), TcpListener::bind("127.0.0.1:0").await.unwrap());
    let issuers = issuers(&format!("http://{}/keys", listener.local_addr().unwrap()));
    let body = json!({ "keys": [pair.public("ed")] }).to_string();
    let served = tokio::spawn(async move {
        let mut stream = listener.accept().await.unwrap().0;
        let _ = stream.read(&mut [0; 1024]).await.unwrap();
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len());
        stream.write_all((head + &body).as_bytes()).await.unwrap();
    });
    let token = pair.token(&json!({ "alg": "EdDSA", "kid": "ed" }), &claims(&json!({})));
    let (one, other) = tokio::join!(issuers.find(&token), issuers.find(&token));
    assert!(one.is_ok() && other.is_ok(), "{one:?} {other:?}");
    served.await.unwrap();
    assert!(issuers.find(&token).await.is_ok(), "nobody serves them any more");
}

#[test]
fn an_issuer_that_would_let_in_anybody_is_refused() {
    let good = json!({ "issuer": "i", "audience": ["a"], "jwks": "https://id/keys", "tenant": "t", "role": "member" });
    let read = |more: Value| {
        let mut config = good.clone();
        config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let config: Issuer = serde_json::from_value(config).unwrap();
        Issuers::new("gateway.jwt", &BTreeMap::from([("id".to_owned(), config)])).map(drop)
    };
    read(json!({})).unwrap();
    read(json!({ "jwks": "http://127.0.0.1:1/keys" })).unwrap();
    for more in [
        json!({ "audience": [] }),
        json!({ "issuer": "" }),
        json!({ "tenant": null }),
        json!({ "tenant_claim": "org" }),
        json!({ "role": null }),
        json!({ "role": "owner" }),
        json!({ "roles": { "a": "owner" } }),
        json!({ "leeway_s": 3600 }),
        json!({ "refresh_floor_ms": 0 }),
        json!({ "jwks": "http://id.example/keys" }),
        json!({ "jwks": "ftp://id.example/keys" }),
    ] {
        let fault = format!("{:#}", read(more.clone()).unwrap_err());
        assert!(fault.starts_with("gateway.jwt.id"), "{more}: {fault}");
    }
}

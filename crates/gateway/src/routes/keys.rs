use std::collections::BTreeMap;

use axum::Extension;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use proto::budget::budget_service_client::BudgetServiceClient;
use proto::budget::{
    Allowed, ChangeKeyRequest, CreateKeyRequest, GetKeyRequest, Key, KeyLimit, KeyTerms,
    ListKeysRequest, RateLimits, RevokeKeyRequest, Role, RotateKeyRequest,
};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use serde_json::{Value, json};
use types::{CallContext, KeyId, NanoUsd};

use super::budget::PeriodName;
use super::{Json, Object, Path, Query, at_least_one};
use crate::money::Amount;
use crate::{App, Error};

const ROLES: [(&str, Role); 4] = [
    ("admin", Role::Admin),
    ("operator", Role::Operator),
    ("member", Role::Member),
    ("read_only", Role::ReadOnly),
];

/// Whom a key stands for, and what it may do. A list that is null allows everything; a name in it that
/// ends in `*` stands for all that begin so.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Terms {
    /// What people call it, in 1 to 256 bytes
    name: Option<String>,
    /// Who pays; whoever makes the key when absent
    user: Option<String>,
    /// The user's team
    team: Option<String>,
    /// `admin`, `operator`, `member` or `read_only`; `member` when absent
    role: Option<String>,
    /// Routes and models that it may ask
    models: Option<Vec<String>>,
    /// Tools that it may call
    tools: Option<Vec<String>>,
    /// Collections of documents that it may use; all of a tenant's are `default`
    collections: Option<Vec<String>>,
    /// `private` when all of its calls are
    privacy: Option<String>,
    /// False when none of its calls is answered from what was kept, or kept
    cache: Option<bool>,
    /// How much it may ask for
    #[schema(value_type = Option<Rates>)]
    rate_limits: Option<Object<Rates>>,
    /// When it ends, in milliseconds since 1970
    expires_at_ms: Option<i64>,
    /// What it may spend, in USD, more than zero, by `daily`, `weekly`, `monthly` and `total`; null takes a limit away
    #[schema(value_type = BTreeMap<PeriodName, Option<f64>>)]
    limits: BTreeMap<PeriodName, Option<Amount>>,
}

/// How much a key may ask for; null is not limited by the key.
#[derive(Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rates {
    /// Requests in a window
    requests: Option<u64>,
    /// How long the window is, in milliseconds, at most a day; 60000 when absent
    window_ms: Option<u64>,
    /// Tokens in a minute
    tokens_per_minute: Option<u64>,
    /// Requests at once
    concurrency: Option<u64>,
}

#[derive(Deserialize, utoipa::IntoParams)]
#[serde(deny_unknown_fields)]
pub(crate) struct Page {
    /// The last id of the page before
    after: Option<String>,
    /// 1 to 1000, 100 when absent
    limit: Option<u32>,
}

/// How a secret is replaced.
#[derive(Default, Deserialize, utoipa::ToSchema)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Rotation {
    /// How long the secret until now is good yet, in milliseconds, at most 30 days; a day when absent
    overlap_ms: Option<u64>,
}

/// Makes a key. Its secret is in this answer, and never told again.
#[utoipa::path(post, operation_id = "create_key", path = "/api/v1/keys", tag = "keys", request_body = Terms,
    responses((status = 201, description = "The key and its `secret`"), (status = 400, description = "Something that no key can be"),
        (status = 403, description = "Who asks is no admin")))]
pub(crate) async fn create(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Json(terms): Json<Terms>,
) -> Result<Response, Error> {
    let limits = terms.limits()?;
    let terms = Some(terms.into_wire(&context)?);
    let request = runtime::context::request(&context, CreateKeyRequest { terms, limits });
    let reply =
        BudgetServiceClient::new(app.peers.budget.clone()).create_key(request).await?.into_inner();
    Ok(told_once(StatusCode::CREATED, reply.key, reply.secret))
}

/// Lists the tenant's keys, the oldest first, also those that were revoked.
#[utoipa::path(get, operation_id = "list_keys", path = "/api/v1/keys", tag = "keys", params(Page),
    responses((status = 200, description = "A page of keys, without their secrets")))]
pub(crate) async fn list(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Query(page): Query<Page>,
) -> Result<axum::Json<Value>, Error> {
    let (after, limit) = (page.after.unwrap_or_default(), at_least_one(page.limit)?);
    let request = runtime::context::request(&context, ListKeysRequest { after, limit });
    let reply =
        BudgetServiceClient::new(app.peers.budget.clone()).list_keys(request).await?.into_inner();
    let keys: Vec<Value> = reply.keys.into_iter().map(shown).collect();
    Ok(axum::Json(json!({ "keys": keys })))
}

/// Tells of a key.
#[utoipa::path(get, operation_id = "get_key", path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The key, without its secret"), (status = 404, description = "There is none")))]
pub(crate) async fn read(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<axum::Json<Value>, Error> {
    let request = GetKeyRequest { id: KeyId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    let reply =
        BudgetServiceClient::new(app.peers.budget.clone()).get_key(request).await?.into_inner();
    Ok(axum::Json(shown(reply.key.unwrap_or_default())))
}

/// Changes what a key may do: what the body names, and nothing else. Null takes a restriction away.
#[utoipa::path(patch, operation_id = "change_key", path = "/api/v1/keys/{id}", tag = "keys", request_body = Terms,
    params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The key as it is now"), (status = 400, description = "Something that no key can be"),
        (status = 404, description = "There is none"), (status = 409, description = "It was revoked")))]
pub(crate) async fn change(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    Json(body): Json<BTreeMap<String, Box<RawValue>>>,
) -> Result<axum::Json<Value>, Error> {
    let mut fields = Vec::new();
    for (name, value) in &body {
        match name.as_str() {
            "limits" => continue,
            "name" | "user" | "role" if value.get() == "null" => {
                return Err(Error::invalid(format!("/{name}: null")));
            }
            "privacy" => fields.push("private".to_owned()),
            "cache" => fields.push("uncached".to_owned()),
            name => fields.push(name.to_owned()),
        }
    }
    let malformed = |fault: serde_json::Error| Error::invalid(fault.to_string());
    let body = serde_json::to_string(&body).map_err(malformed)?;
    let terms: Terms = serde_json::from_str(&body).map_err(malformed)?;
    let limits = terms.limits()?;
    let id = KeyId::new(id)?.to_string();
    // What is not among the fields is not looked at.
    let terms = Some(terms.into_wire(&context)?);
    let request = ChangeKeyRequest { id, terms, fields, limits };
    let request = runtime::context::request(&context, request);
    let reply =
        BudgetServiceClient::new(app.peers.budget.clone()).change_key(request).await?.into_inner();
    Ok(axum::Json(shown(reply.key.unwrap_or_default())))
}

/// Gives a key another secret, which is in this answer and never told again. The one until now is good for
/// a while yet.
#[utoipa::path(post, operation_id = "rotate_key", path = "/api/v1/keys/{id}/rotate", tag = "keys",
    request_body = Option<Rotation>, params(("id" = String, Path, description = "The key")),
    responses((status = 200, description = "The key and its new `secret`"), (status = 404, description = "There is none"),
        (status = 409, description = "It was revoked")))]
pub(crate) async fn rotate(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
    body: Bytes,
) -> Result<Response, Error> {
    let rotation: Option<Object<Rotation>> = match body.trim_ascii() {
        [] => None,
        body => serde_json::from_slice(body)
            .map_err(|fault| Error::invalid(format!("the body is not valid: {fault}")))?,
    };
    let overlap_ms = rotation.unwrap_or_default().0.overlap_ms;
    let request = RotateKeyRequest { id: KeyId::new(id)?.to_string(), overlap_ms };
    let request = runtime::context::request(&context, request);
    let reply =
        BudgetServiceClient::new(app.peers.budget.clone()).rotate_key(request).await?.into_inner();
    Ok(told_once(StatusCode::OK, reply.key, reply.secret))
}

/// Ends a key for good: within a second it is refused everywhere. What it began goes on.
#[utoipa::path(delete, operation_id = "revoke_key", path = "/api/v1/keys/{id}", tag = "keys",
    params(("id" = String, Path, description = "The key")),
    responses((status = 204, description = "Revoked"), (status = 404, description = "There is none")))]
pub(crate) async fn revoke(
    State(app): State<App>,
    Extension(context): Extension<CallContext>,
    Path(id): Path<String>,
) -> Result<StatusCode, Error> {
    let request = RevokeKeyRequest { id: KeyId::new(id)?.to_string() };
    let request = runtime::context::request(&context, request);
    BudgetServiceClient::new(app.peers.budget.clone()).revoke_key(request).await?;
    Ok(StatusCode::NO_CONTENT)
}

impl Terms {
    fn into_wire(self, context: &CallContext) -> Result<KeyTerms, Error> {
        let allowed = |names: Option<Vec<String>>| names.map(|names| Allowed { names });
        let private = match self.privacy.as_deref() {
            None | Some("public") => false,
            Some("private") => true,
            Some(other) => {
                let fault = format!("/privacy: {other:?} is neither public nor private");
                return Err(Error::invalid(fault));
            }
        };
        if self.expires_at_ms.is_some_and(|end| end <= 0) {
            return Err(Error::invalid("/expires_at_ms: is over"));
        }
        let rates = self.rate_limits.unwrap_or_default().0;
        let user = self.user.unwrap_or_else(|| context.user.to_string());
        Ok(KeyTerms {
            name: self.name.unwrap_or_else(|| user.clone()),
            user,
            team: self.team.unwrap_or_default(),
            role: named("role", &ROLES, self.role.as_deref().unwrap_or("member"))?.into(),
            models: allowed(self.models),
            tools: allowed(self.tools),
            collections: allowed(self.collections),
            private,
            uncached: self.cache == Some(false),
            rate_limits: Some(RateLimits {
                requests: rates.requests,
                window_ms: rates.window_ms,
                tokens_per_minute: rates.tokens_per_minute,
                concurrency: rates.concurrency,
            }),
            expires_at_ms: self.expires_at_ms.unwrap_or_default(),
        })
    }

    fn limits(&self) -> Result<Vec<KeyLimit>, Error> {
        let read = |(period, limit): (&PeriodName, &Option<Amount>)| {
            let place = format!("/limits/{}", period.as_str());
            let nanos = |limit: &Amount| limit.limit(&place).map(NanoUsd::nanos);
            let limit_nanos = limit.as_ref().map(nanos).transpose()?;
            Ok(KeyLimit { period: (*period).wire().into(), limit_nanos })
        };
        self.limits.iter().map(read).collect()
    }
}

fn named<T: Copy>(field: &str, known: &[(&str, T)], word: &str) -> Result<T, Error> {
    let found = known.iter().find(|(name, _)| *name == word).map(|(_, value)| *value);
    found.ok_or_else(|| {
        let names: Vec<&str> = known.iter().map(|(name, _)| *name).collect();
        Error::invalid(format!("/{field}: {word:?} is not one of {}", names.join(", ")))
    })
}

/// Answers with a secret, which nobody on the way may keep.
fn told_once(status: StatusCode, key: Option<Key>, secret: String) -> Response {
    let mut body = shown(key.unwrap_or_default());
    body["secret"] = secret.into();
    let no_store = [(header::CACHE_CONTROL, HeaderValue::from_static("no-store"))];
    (status, no_store, axum::Json(body)).into_response()
}

fn shown(key: Key) -> Value {
    let terms = key.terms.unwrap_or_default();
    let names = |allowed: &Option<Allowed>| allowed.as_ref().map(|allowed| allowed.names.clone());
    let time = |ms: i64| (ms != 0).then_some(ms);
    let role = ROLES.iter().find(|(_, role)| *role == terms.role()).map(|(name, _)| *name);
    let rates = terms.rate_limits.unwrap_or_default();
    json!({
        "id": key.id,
        "begins": key.begins,
        "name": terms.name,
        "user": terms.user,
        "team": Some(&terms.team).filter(|team| !team.is_empty()),
        "role": role,
        "models": names(&terms.models),
        "tools": names(&terms.tools),
        "collections": names(&terms.collections),
        "privacy": if terms.private { "private" } else { "public" },
        "cache": !terms.uncached,
        "rate_limits": Rates {
            requests: rates.requests,
            window_ms: rates.window_ms,
            tokens_per_minute: rates.tokens_per_minute,
            concurrency: rates.concurrency,
        },
        "expires_at_ms": time(terms.expires_at_ms),
        "created_at_ms": key.created_at_ms,
        "rotated_at_ms": time(key.rotated_at_ms),
        "old_secret_until_ms": time(key.old_secret_until_ms),
        "revoked_at_ms": time(key.revoked_at_ms),
    })
}

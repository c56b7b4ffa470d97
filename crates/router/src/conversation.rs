//! Conversations that go on by `previous_response_id`: what they bring to a call, and what is kept of
//! it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use types::{CallContext, Privacy, ResponseId, TenantId};

use crate::Error;
use crate::dialects::responses::items::items;
use crate::request::{self, ChatRequest};
use crate::store::{Responses, Store, Stored};

/// How long an answer waits to be kept.
const PATIENCE: Duration = Duration::from_secs(3);

/// The responses that calls may continue.
#[derive(Clone)]
pub(crate) struct Conversations {
    store: Option<Arc<dyn Store>>,
    limits: Responses,
}

/// What was said before.
#[derive(Default)]
struct History {
    items: Vec<Value>,
    privacy: Privacy,
}

/// A page of a response's input.
pub(crate) struct Page {
    /// Items in JSON.
    pub(crate) items: Vec<String>,
    pub(crate) has_more: bool,
}

impl Conversations {
    pub(crate) fn new(store: Option<Arc<dyn Store>>, limits: Responses) -> Self {
        Self { store, limits }
    }

    /// Reads a Responses request and what it continues, as which the call is at least as private from
    /// now on; returns besides what is to be kept of the answer.
    ///
    /// # Errors
    /// [`Error::Invalid`] with a JSON pointer to the fault; [`Error::Store`] if what is continued
    /// cannot be read.
    pub(crate) async fn read(
        &self,
        context: &mut CallContext,
        body: &[u8],
    ) -> Result<(ChatRequest, Option<Keep>), Error> {
        let invalid = |fault: String| Error::Invalid(fault);
        let mut value = request::json(body)?;
        let fields = value.as_object_mut();
        let fields = fields.ok_or_else(|| invalid("the body is not a JSON object".to_owned()))?;
        let wants = match fields.get("store") {
            None | Some(Value::Null) => true,
            Some(Value::Bool(wants)) => *wants,
            Some(_) => return Err(invalid("/store: true or false".to_owned())),
        };
        let previous = match fields.get("previous_response_id") {
            None | Some(Value::Null) => None,
            Some(Value::String(id)) => Some(id.clone()),
            Some(_) => return Err(invalid("/previous_response_id: an id is required".to_owned())),
        };
        let history = match &previous {
            Some(id) => self.history(&context.tenant, id).await?,
            None => History::default(),
        };
        context.privacy = context.privacy.raised_to(history.privacy);
        let id = ResponseId::generate().to_string();
        let store = self.store.as_ref().filter(|_| wants);
        let input = store.and(fields.get("input")).cloned().unwrap_or_default();
        // The answer repeats it.
        fields.insert("store".to_owned(), store.is_some().into());
        let request = ChatRequest::response(value, &history.items, id.clone())?;
        let keep = match store {
            None => None,
            Some(_) if body.len() as u64 > self.limits.max_bytes => {
                return Err(invalid(format!(
                    "/store: {} bytes are more than the {} that are kept of one response; send \"store\": false",
                    body.len(),
                    self.limits.max_bytes
                )));
            }
            Some(store) => Some(Keep {
                store: Arc::clone(store),
                max_bytes: self.limits.max_bytes,
                tenant: context.tenant.clone(),
                privacy: context.privacy,
                input: items(input, &id),
                id,
                previous,
            }),
        };
        Ok((request, keep))
    }

    /// Keeps a response that was put together elsewhere; `request` is what its client asked. Returns
    /// whether it was kept.
    ///
    /// # Errors
    /// [`Error::Invalid`] if either is not what it is called; as [`Conversations::read`] for what is
    /// continued.
    pub(crate) async fn keep(
        &self,
        context: &CallContext,
        request: &[u8],
        response: &[u8],
    ) -> Result<bool, Error> {
        let invalid = |fault: &str| Error::Invalid(fault.to_owned());
        let (mut request, mut response) = (request::json(request)?, request::json(response)?);
        let (Some(store), true) = (&self.store, request["store"] != Value::Bool(false)) else {
            return Ok(false);
        };
        let id = response["id"].as_str().ok_or_else(|| invalid("/id: an id is required"))?;
        let id = ResponseId::new(id).map_err(|fault| invalid(&fault.to_string()))?.to_string();
        let previous = request["previous_response_id"].as_str().map(str::to_owned);
        let mut privacy = context.privacy;
        if let Some(previous) = &previous {
            privacy = privacy.raised_to(self.history(&context.tenant, previous).await?.privacy);
        }
        let keep = Keep {
            store: Arc::clone(store),
            max_bytes: self.limits.max_bytes,
            tenant: context.tenant.clone(),
            privacy,
            input: items(request["input"].take(), &id),
            id,
            previous,
        };
        response["store"] = true.into();
        keep.keep(&mut response).await;
        Ok(response["store"] == true)
    }

    async fn history(&self, tenant: &TenantId, id: &str) -> Result<History, Error> {
        let invalid = |fault: String| Error::Invalid(format!("/previous_response_id: {fault}"));
        let Some(store) = &self.store else {
            return Err(invalid("nothing is kept here; send the conversation as input".to_owned()));
        };
        let gone = |id: &str| invalid(format!("{id:?} is unknown, was deleted or has expired"));
        let most = self.limits.conversation;
        let turns = store.turns(tenant, id, most).await?;
        let first = turns.last().ok_or_else(|| gone(id))?;
        if turns.len() >= most as usize {
            return Err(invalid(format!(
                "the conversation has {most} responses, and may have no more; send it as input"
            )));
        }
        if let Some(before) = &first.previous {
            return Err(gone(before));
        }
        let bytes = turns.iter().fold(0_u64, |sum, turn| sum.saturating_add(turn.bytes));
        let most = self.limits.conversation_bytes;
        if bytes > most {
            return Err(invalid(format!(
                "the conversation has {bytes} bytes, and may have {most}; send a shorter one as input"
            )));
        }
        let privacy = turns.iter().fold(Privacy::Public, |all, one| all.raised_to(one.privacy));
        let ids: Vec<String> = turns.into_iter().rev().map(|turn| turn.id).collect();
        let read = store.read(tenant, &ids).await?.into_iter();
        let mut read: HashMap<_, _> = read.map(|one| (one.id.clone(), one)).collect();
        let mut items = Vec::new();
        for id in ids {
            // One may have been deleted since.
            let one = read.remove(&id).ok_or_else(|| gone(&id))?;
            items.extend(list(&one.input)?);
            let mut response = json(&one.response)?;
            if let Some(Value::Array(output)) = response.get_mut("output").map(Value::take) {
                items.extend(output);
            }
        }
        Ok(History { items, privacy })
    }

    /// Returns a response as its client got it.
    ///
    /// # Errors
    /// [`Error::Unknown`] if the tenant has none of this id, [`Error::Store`] if the store fails.
    pub(crate) async fn one(&self, tenant: &TenantId, id: &str) -> Result<Stored, Error> {
        let unknown = || Error::Unknown(id.to_owned());
        let store = self.store.as_ref().ok_or_else(unknown)?;
        let read = store.read(tenant, &[id.to_owned()]).await?;
        read.into_iter().next().ok_or_else(unknown)
    }

    /// Removes a response.
    ///
    /// # Errors
    /// As [`Conversations::one`].
    pub(crate) async fn delete(&self, tenant: &TenantId, id: &str) -> Result<(), Error> {
        let unknown = || Error::Unknown(id.to_owned());
        let store = self.store.as_ref().ok_or_else(unknown)?;
        store.delete(tenant, id).await?.then_some(()).ok_or_else(unknown)
    }

    /// Returns at most `limit` items that a response answered, those behind the item `after` when it
    /// is not empty.
    ///
    /// # Errors
    /// As [`Conversations::one`], or [`Error::Invalid`] if there is no such item.
    pub(crate) async fn input(
        &self,
        tenant: &TenantId,
        id: &str,
        (oldest_first, after, limit): (bool, &str, usize),
    ) -> Result<Page, Error> {
        let mut items = list(&self.one(tenant, id).await?.input)?;
        if !oldest_first {
            items.reverse();
        }
        if !after.is_empty() {
            let place = items.iter().position(|item| item["id"] == after);
            let fault = || Error::Invalid(format!("after: there is no item {after:?}"));
            items.drain(..=place.ok_or_else(fault)?);
        }
        let has_more = items.len() > limit;
        items.truncate(limit);
        Ok(Page { items: items.iter().map(Value::to_string).collect(), has_more })
    }
}

/// Tells whether a Responses request continues another, or insists on being kept: a provider's batch API
/// knows no responses of ours, and what it answers is not kept.
pub(crate) fn needs_store(body: &[u8]) -> bool {
    #[derive(serde::Deserialize)]
    struct Peek {
        store: Option<Value>,
        previous_response_id: Option<Value>,
    }
    let peek: Option<Peek> = serde_json::from_slice(body).ok();
    peek.is_some_and(|peek| peek.store == Some(true.into()) || peek.previous_response_id.is_some())
}

fn list(text: &str) -> Result<Vec<Value>, Error> {
    match json(text)? {
        Value::Array(items) => Ok(items),
        _ => Ok(Vec::new()),
    }
}

fn json(text: &str) -> Result<Value, Error> {
    serde_json::from_str(text).map_err(|fault| sqlx::Error::Decode(fault.into()).into())
}

/// What is to be kept of a call.
pub(crate) struct Keep {
    store: Arc<dyn Store>,
    max_bytes: u64,
    tenant: TenantId,
    privacy: Privacy,
    input: Vec<Value>,
    id: String,
    previous: Option<String>,
}

impl Keep {
    /// Keeps the response before its client has it. That it could not be kept does not take the
    /// answer away, which is paid: the response says so.
    pub(crate) async fn keep(self, response: &mut Value) {
        let stored = Stored {
            id: self.id,
            previous: self.previous,
            privacy: self.privacy,
            input: Value::Array(self.input).to_string(),
            response: response.to_string(),
        };
        let kept = async {
            if stored.bytes() > self.max_bytes {
                return Err(format!("it has {} bytes", stored.bytes()));
            }
            let kept = tokio::time::timeout(PATIENCE, self.store.keep(&self.tenant, &stored)).await;
            kept.map_err(|late| late.to_string())?.map_err(|fault| fault.to_string())
        };
        if let Err(fault) = kept.await {
            tracing::warn!(fault, "a response was not kept");
            response["store"] = false.into();
        }
    }
}

#[cfg(test)]
mod tests {
    use proto::router::Dialect;
    use serde_json::json;
    use types::{SystemClock, UserId};

    use super::*;
    use crate::store::{Sqlite, Terms};

    fn context(tenant: &str) -> CallContext {
        CallContext::new(TenantId::new(tenant).unwrap(), UserId::new("u").unwrap())
    }

    async fn open(directory: &std::path::Path, limits: Responses, bytes: u64) -> Conversations {
        let terms = Terms { lifetime: Duration::from_secs(60), tenant_bytes: bytes };
        let store = Sqlite::open(directory.join("r.db"), terms, Arc::new(SystemClock)).await;
        Conversations::new(Some(Arc::new(store.unwrap())), limits)
    }

    /// Asks and is answered; returns the response.
    async fn turn(
        to: &Conversations,
        context: &mut CallContext,
        body: &Value,
    ) -> Result<Value, Error> {
        let (request, keep) = to.read(context, body.to_string().as_bytes()).await?;
        assert_eq!(request.dialect, Dialect::Responses);
        let output = json!([{ "type": "message", "role": "assistant",
            "content": [{ "type": "output_text", "text": "pong" }] }]);
        let wire = request.wire();
        let mut response =
            json!({ "id": request.response_id, "output": output, "store": wire["store"] });
        if let Some(keep) = keep {
            keep.keep(&mut response).await;
        }
        Ok(response)
    }

    #[tokio::test]
    async fn a_conversation_goes_on_for_its_tenant_and_is_never_less_private() {
        let directory = tempfile::tempdir().unwrap();
        let to = open(directory.path(), Responses::default(), 1 << 20).await;
        let mut private = context("a");
        private.privacy = Privacy::Private;
        let first = json!({ "model": "m", "input": "one" });
        let first = turn(&to, &mut private, &first).await.unwrap();
        assert_eq!(first["store"], true);

        let next = json!({ "model": "m", "input": [{ "role": "user", "content": "two" }],
            "previous_response_id": first["id"], "instructions": "Be brief." });
        let mut public = context("a");
        let (request, keep) = to.read(&mut public, next.to_string().as_bytes()).await.unwrap();
        assert_eq!(public.privacy, Privacy::Private);
        let chat = request.for_chat("m", ("max_tokens", 9), false).unwrap();
        let told: Vec<_> =
            chat["messages"].as_array().unwrap().iter().map(|m| &m["role"]).collect();
        assert_eq!(told, ["system", "user", "assistant", "user"]);
        drop(keep);

        // What continues it is private too, and so is what continues that.
        let second = turn(&to, &mut context("a"), &next).await.unwrap();
        let third = json!({ "model": "m", "input": "x", "previous_response_id": second["id"] });
        let mut public = context("a");
        turn(&to, &mut public, &third).await.unwrap();
        assert_eq!(public.privacy, Privacy::Private);

        // Nobody else has it.
        let other = turn(&to, &mut context("b"), &third).await.unwrap_err();
        assert!(matches!(other, Error::Invalid(ref fault)
            if fault.starts_with("/previous_response_id") && fault.contains("unknown")));
        assert!(matches!(
            to.one(&TenantId::new("b").unwrap(), first["id"].as_str().unwrap()).await,
            Err(Error::Unknown(_))
        ));

        // Without its beginning it does not go on.
        let a = TenantId::new("a").unwrap();
        to.delete(&a, first["id"].as_str().unwrap()).await.unwrap();
        let gone = turn(&to, &mut context("a"), &third).await.unwrap_err().to_string();
        assert!(gone.contains(first["id"].as_str().unwrap()), "{gone}");
    }

    #[tokio::test]
    async fn what_is_too_much_is_said() {
        let directory = tempfile::tempdir().unwrap();
        let limits = Responses {
            conversation: 2,
            conversation_bytes: 600,
            max_bytes: 1_000,
            ..Responses::default()
        };
        let to = open(directory.path(), limits, 1_500).await;
        let mut context = context("a");
        let ask = |input: String, previous: &Value| json!({ "model": "m", "input": input, "previous_response_id": previous });
        let long = turn(&to, &mut context, &ask("x".repeat(2_000), &Value::Null)).await;
        assert!(long.unwrap_err().to_string().starts_with("/store: "));
        let first = turn(&to, &mut context, &ask("x".to_owned(), &Value::Null)).await.unwrap();
        let second = turn(&to, &mut context, &ask("y".to_owned(), &first["id"])).await.unwrap();
        let third = turn(&to, &mut context, &ask("z".to_owned(), &second["id"])).await;
        assert!(third.unwrap_err().to_string().contains("has 2 responses"));
        let big = turn(&to, &mut context, &ask("x".repeat(500), &Value::Null)).await.unwrap();
        assert_eq!(big["store"], true);
        let next = turn(&to, &mut context, &ask("y".to_owned(), &big["id"])).await;
        assert!(next.unwrap_err().to_string().contains("bytes, and may have 600"));
        // The tenant's share is used up: the answer stays, and says so.
        let full = turn(&to, &mut context, &ask("x".repeat(600), &Value::Null)).await.unwrap();
        assert_eq!(full["store"], false);
        // Whoever wants nothing kept loses nothing.
        let unkept = json!({ "model": "m", "input": "x".repeat(2_000), "store": false });
        assert_eq!(turn(&to, &mut context, &unkept).await.unwrap()["store"], false);
        for (fault, body) in [
            ("/store", json!({ "model": "m", "input": "x", "store": "yes" })),
            ("/input/0", json!({ "model": "m", "input": [1] })),
            ("/input", json!({ "model": "m", "input": 1 })),
            (
                "/previous_response_id",
                json!({ "model": "m", "input": "x", "previous_response_id": 1 }),
            ),
        ] {
            let told = turn(&to, &mut context, &body).await.unwrap_err().to_string();
            assert!(told.starts_with(fault), "{told}");
        }
    }

    #[test]
    fn what_needs_the_store_is_not_for_a_batch_api() {
        for (body, wanted) in [
            (r#"{"input":"x"}"#, false),
            (r#"{"store":false,"previous_response_id":null}"#, false),
            (r#"{"store":true}"#, true),
            (r#"{"store":false,"previous_response_id":"r"}"#, true),
        ] {
            assert_eq!(needs_store(body.as_bytes()), wanted, "{body}");
        }
    }

    #[tokio::test]
    async fn the_input_is_read_in_pages() {
        let directory = tempfile::tempdir().unwrap();
        let to = open(directory.path(), Responses::default(), 1 << 20).await;
        let mut context = context("a");
        let input: Vec<_> =
            (0..3).map(|n| json!({ "role": "user", "content": n.to_string() })).collect();
        let made = turn(&to, &mut context, &json!({ "model": "m", "input": input })).await.unwrap();
        let id = made["id"].as_str().unwrap();
        let page = async |oldest: bool, after: &str| {
            let page = to.input(&context.tenant, id, (oldest, after, 2)).await.unwrap();
            let items = page.items.iter().map(|item| serde_json::from_str::<Value>(item).unwrap());
            let items: Vec<_> = items.collect();
            let texts = items.iter().map(|item| item["content"][0]["text"].clone());
            let last = items.last().map(|item| item["id"].as_str().unwrap().to_owned());
            (texts.collect::<Vec<_>>(), last.unwrap_or_default(), page.has_more)
        };
        for (oldest, first, second) in [(true, ["0", "1"], "2"), (false, ["2", "1"], "0")] {
            let (texts, last, has_more) = page(oldest, "").await;
            assert!(texts == first && has_more);
            let (texts, _, has_more) = page(oldest, &last).await;
            assert!(texts == [second] && !has_more);
        }
        let none = to.input(&context.tenant, id, (true, "none", 2)).await;
        assert!(matches!(none, Err(Error::Invalid(_))));
    }
}

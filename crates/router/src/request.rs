//! A request in the client's dialect, read once. Pure.

use proto::router::Dialect;
use serde_json::{Map, Value, json};
use types::ResponseId;

use crate::Error;
use crate::complexity::{self, Need};
use crate::dialects::Refused;
use crate::dialects::anthropic::{from_chat, to_chat};
use crate::dialects::{gemini, plain, responses};
use crate::extras::{self, Asked};
use crate::size::{self, Size};
use crate::tokens::Tokens;
use crate::{malformed, media};

/// What chat completions call the most tokens that an answer may have, now and before.
const LIMITS: [&str; 2] = ["max_completion_tokens", "max_tokens"];

/// A request that is known to be good.
#[derive(Debug, Clone)]
pub(crate) struct ChatRequest {
    /// What the client speaks, and is answered in.
    pub(crate) dialect: Dialect,
    /// What the client sent, when it does not speak chat completions.
    wire: Option<Map<String, Value>>,
    /// The request as chat completions say it; or why they cannot.
    chat: Result<Map<String, Value>, Refused>,
    /// The id of the answer, of Responses alone.
    pub(crate) response_id: String,
    /// The route or model that it names.
    pub(crate) model: String,
    /// The client asked for usage in the stream itself.
    pub(crate) wants_usage: bool,
    /// How large it is.
    pub(crate) size: Size,
    /// What it asks for that costs more than a token's price.
    pub(crate) extras: Vec<Asked>,
    /// The client's name for its prompt: `metadata.prompt_version`, cut after 64 characters.
    pub(crate) prompt_version: String,
    /// Where the first picture is, as a JSON pointer.
    pub(crate) image: Option<String>,
    /// Where the first part is that has only the address of what it is, as a JSON pointer.
    pub(crate) elsewhere: Option<String>,
    max_output_tokens: Option<u64>,
    /// The most tokens of what the client says will be written: what it got wrong is billed besides.
    predicted: u64,
    /// How many answers are wanted.
    choices: u64,
}

impl ChatRequest {
    /// # Errors
    /// [`Error::Invalid`] with a JSON pointer to the fault.
    pub(crate) fn parse(body: &[u8], dialect: Dialect) -> Result<Self, Error> {
        let value = json(body)?;
        match dialect {
            Dialect::Embeddings => Self::embeddings(value),
            Dialect::Responses => {
                let id = ResponseId::generate().to_string();
                Self::response(value, &[], id)
            }
            Dialect::Messages | Dialect::ChatCompletions | Dialect::Unspecified => {
                if let Value::Object(fields) = &value {
                    malformed::check(fields, dialect).map_err(Error::Invalid)?;
                }
                Self::conversation(value, None, dialect)
            }
        }
    }

    /// Reads a Responses request that continues the items of `history`; the answer will have this id.
    ///
    /// # Errors
    /// As [`ChatRequest::parse`].
    pub(crate) fn response(value: Value, history: &[Value], id: String) -> Result<Self, Error> {
        if let Value::Object(fields) = &value {
            malformed::check(fields, Dialect::Responses).map_err(Error::Invalid)?;
        }
        let chat = responses::to_chat::request(&value, history).map_err(Error::Invalid)?;
        let wire = match value {
            Value::Object(fields) => Some(fields),
            _ => None,
        };
        let request = Self::conversation(chat, wire, Dialect::Responses)?;
        Ok(Self { response_id: id, ..request })
    }

    /// Reads a conversation; `wire` is what the client said, unless that is `value`.
    fn conversation(
        value: Value,
        wire: Option<Map<String, Value>>,
        dialect: Dialect,
    ) -> Result<Self, Error> {
        let invalid = |fault: String| Error::Invalid(fault);
        // Nobody but Messages' own providers could take what it alone can say; so it may say it.
        let chat = (dialect == Dialect::Messages).then(|| to_chat::request(&value));
        let Value::Object(fields) = value else {
            return Err(invalid("the body is not a JSON object".to_owned()));
        };
        let model = match fields.get("model") {
            Some(Value::String(model)) if !model.is_empty() => model.clone(),
            _ => return Err(invalid("/model: a name is required".to_owned())),
        };
        let messages = fields.get("messages").and_then(Value::as_array).filter(|m| !m.is_empty());
        let messages =
            messages.ok_or_else(|| invalid("/messages: at least one is required".to_owned()))?;
        let size = Size::of(&fields);
        let (place, said) = match wire.as_ref().and_then(|wire| wire.get("input")?.as_array()) {
            Some(input) => ("/input", input),
            None => ("/messages", messages),
        };
        let (image, elsewhere) = (media::image(place, said), media::elsewhere(place, said));
        let extras = extras::of(wire.as_ref().unwrap_or(&fields), dialect, place, said);
        let metadata = wire.as_ref().map_or(fields.get("metadata"), |wire| wire.get("metadata"));
        let metadata = metadata.and_then(|metadata| metadata.get("prompt_version"));
        let prompt_version = metadata.and_then(Value::as_str).unwrap_or_default();
        let prompt_version = prompt_version.chars().filter(|c| !c.is_control()).take(64).collect();
        let mut most = None;
        for field in LIMITS {
            match fields.get(field) {
                None | Some(Value::Null) => {}
                Some(value) => {
                    let tokens = value.as_u64().filter(|tokens| (1..=10_000_000).contains(tokens));
                    let named =
                        if dialect == Dialect::Responses { "max_output_tokens" } else { field };
                    let fault = || invalid(format!("/{named}: {value} is not 1 to 10000000"));
                    let tokens = tokens.ok_or_else(fault)?;
                    if most.replace(tokens).is_some_and(|before| before != tokens) {
                        let fault = format!("/{field}: {value} contradicts /{}", LIMITS[0]);
                        return Err(invalid(fault));
                    }
                }
            }
        }
        let choices = match fields.get("n") {
            None | Some(Value::Null) => 1,
            Some(n) => n
                .as_u64()
                .filter(|n| (1..=128).contains(n))
                .ok_or_else(|| invalid(format!("/n: {n} is not 1 to 128")))?,
        };
        let predicted = fields.get("prediction").filter(|prediction| !prediction.is_null());
        let predicted = predicted.map_or(0, |prediction| Size::of_value(prediction).most(&model));
        let wants_usage = fields.get("stream_options").and_then(|o| o.get("include_usage"));
        let wants_usage = wants_usage == Some(&Value::Bool(true));
        let (wire, chat) = match chat {
            None => (wire, Ok(fields)),
            Some(Ok(Value::Object(chat))) => (Some(fields), Ok(chat)),
            Some(Ok(_)) => (Some(fields), Err("the body is not a JSON object".to_owned())),
            Some(Err(refused)) => (Some(fields), Err(refused)),
        };
        Ok(Self {
            dialect,
            wire,
            chat,
            response_id: String::new(),
            model,
            wants_usage,
            size,
            extras,
            image,
            elsewhere,
            prompt_version,
            max_output_tokens: most,
            predicted,
            choices,
        })
    }

    /// Reads a request for embeddings.
    fn embeddings(value: Value) -> Result<Self, Error> {
        let invalid = |fault: &str| Error::Invalid(fault.to_owned());
        let Value::Object(fields) = value else {
            return Err(invalid("the body is not a JSON object"));
        };
        let model = fields.get("model").and_then(Value::as_str).filter(|model| !model.is_empty());
        let model = model.ok_or_else(|| invalid("/model: a name is required"))?.to_owned();
        let is_input = |input: &Value| match input {
            Value::String(text) => !text.is_empty(),
            Value::Array(tokens) => !tokens.is_empty() && tokens.iter().all(Value::is_u64),
            _ => false,
        };
        let fault = || invalid("/input: a text, tokens, or a list of either is required");
        match fields.get("input").ok_or_else(fault)? {
            Value::Array(inputs) if inputs.len() > 2048 => {
                return Err(invalid("/input: at most 2048 are taken"));
            }
            Value::Array(inputs) if !inputs.is_empty() && inputs.iter().all(is_input) => {}
            input if is_input(input) => {}
            _ => return Err(fault()),
        }
        let size = fields.get("input").map(Size::of_inputs).unwrap_or_default();
        Ok(Self {
            dialect: Dialect::Embeddings,
            wire: None,
            response_id: String::new(),
            chat: Ok(fields),
            model,
            wants_usage: false,
            size,
            extras: Vec::new(),
            prompt_version: String::new(),
            image: None,
            elsewhere: None,
            max_output_tokens: None,
            predicted: 0,
            // Nothing is written.
            choices: 0,
        })
    }

    /// Returns where it says what is to be answered.
    pub(crate) fn place(&self) -> &'static str {
        match self.dialect {
            Dialect::Responses | Dialect::Embeddings => "/input",
            Dialect::Messages | Dialect::ChatCompletions | Dialect::Unspecified => "/messages",
        }
    }

    /// Returns whether it is one for embeddings.
    pub(crate) fn embeds(&self) -> bool {
        self.dialect == Dialect::Embeddings
    }

    /// Returns how many answers are wanted.
    pub(crate) fn choices(&self) -> u64 {
        self.choices
    }

    /// Returns how many vectors an embeddings request asks for.
    pub(crate) fn inputs(&self) -> usize {
        match self.chat.as_ref().ok().and_then(|fields| fields.get("input")) {
            Some(Value::Array(inputs)) if !inputs.iter().any(Value::is_u64) => inputs.len(),
            _ => 1,
        }
    }

    /// Returns what the client sent.
    pub(crate) fn body(&self) -> Option<&Map<String, Value>> {
        self.wire.as_ref().or(self.chat.as_ref().ok())
    }

    /// Returns the body for a provider of embeddings.
    ///
    /// # Errors
    /// If it is no request for them.
    pub(crate) fn for_embeddings(&self, model: &str) -> Result<Value, Refused> {
        let mut body = self.chat.clone()?;
        body.insert("model".to_owned(), model.into());
        Ok(Value::Object(body))
    }

    /// Returns the most tokens that one answer may have: what the request says, else `default`.
    pub(crate) fn output_tokens(&self, default: u64) -> u64 {
        self.max_output_tokens.unwrap_or(default)
    }

    /// Returns what it needs of a model.
    pub(crate) fn need(&self) -> Need {
        let none = Map::new();
        let chat = self.chat.as_ref().unwrap_or(&none);
        complexity::need(chat, self.size.guess(), self.image.is_some())
    }

    /// Returns about how many tokens it has.
    pub(crate) async fn count(&self, tokens: &Tokens) -> u64 {
        let fields = self.chat.as_ref().ok().or(self.wire.as_ref());
        let (text, around) = fields.map(size::text).unwrap_or_default();
        tokens.count(text).await.saturating_add(around).saturating_add(self.size.besides())
    }

    /// Returns the most tokens that all answers together may have.
    pub(crate) fn all_output_tokens(&self, default: u64) -> u64 {
        self.output_tokens(default).saturating_add(self.predicted).saturating_mul(self.choices)
    }

    /// Tells whether an answer that comes in chunks can be put together: some say more when whole.
    pub(crate) fn can_come_in_chunks(&self) -> bool {
        const SAY_MORE: [&str; 3] = ["logprobs", "modalities", "audio"];
        let says = |fields: &Map<String, Value>, name: &str| {
            fields.get(name).is_some_and(|value| !value.is_null() && *value != Value::Bool(false))
        };
        let plain = |fields| !SAY_MORE.iter().any(|name| says(fields, name));
        self.choices == 1 && !self.embeds() && self.chat.as_ref().is_ok_and(plain)
    }

    /// Returns what a response repeats of what its client sent, and more, but not its input.
    pub(crate) fn wire(&self) -> Map<String, Value> {
        let fields = self.wire.iter().flatten().filter(|(name, _)| *name != "input");
        fields.map(|(name, value)| (name.clone(), value.clone())).collect()
    }

    /// Returns the body for a provider that speaks chat completions: its own model name, usage asked
    /// for in a stream, and `limit`, the model's own unless the client said less or more, under the one
    /// name that the provider has for it: what was reserved is the most that may be written, and a
    /// server does not heed a name that it does not know.
    ///
    /// # Errors
    /// A JSON pointer to what chat completions cannot say.
    pub(crate) fn for_chat(
        &self,
        model: &str,
        limit: (&str, u64),
        stream: bool,
    ) -> Result<Value, Refused> {
        let mut body = self.chat.clone()?;
        if self.wire.is_some() {
            plain::tell(&mut body)?;
        }
        for name in LIMITS {
            body.remove(name);
        }
        body.insert(limit.0.to_owned(), self.output_tokens(limit.1).into());
        body.insert("model".to_owned(), model.into());
        body.insert("stream".to_owned(), stream.into());
        body.remove("stream_options");
        if stream {
            body.insert("stream_options".to_owned(), json!({ "include_usage": true }));
        }
        Ok(Value::Object(body))
    }

    /// Returns the body for a provider that speaks Messages; `limit` is the model's own.
    ///
    /// # Errors
    /// A JSON pointer to what Messages cannot say.
    pub(crate) fn for_messages(
        &self,
        model: &str,
        limit: u64,
        stream: bool,
    ) -> Result<Value, Refused> {
        let native = self.wire.as_ref().filter(|_| self.dialect == Dialect::Messages);
        let Some(wire) = native else {
            let chat = self.chat.as_ref().map_err(Clone::clone)?;
            let wire = from_chat::request(chat, model, self.output_tokens(limit), stream);
            return wire.map_err(|refused| self.pointed(refused));
        };
        let mut body = wire.clone();
        body.remove(LIMITS[0]);
        body.insert("max_tokens".to_owned(), self.output_tokens(limit).into());
        body.insert("model".to_owned(), model.into());
        body.insert("stream".to_owned(), stream.into());
        from_chat::forget_unsigned(&mut body);
        Ok(Value::Object(body))
    }

    /// Returns the body for Gemini's `model`; `limit` is its own.
    ///
    /// # Errors
    /// A JSON pointer to what Gemini cannot say.
    pub(crate) fn for_gemini(&self, model: &str, limit: u64) -> Result<Value, Refused> {
        let chat = self.chat.as_ref().map_err(Clone::clone)?;
        let wire = gemini::request(chat, model, self.output_tokens(limit));
        wire.map_err(|refused| self.pointed(refused))
    }

    /// Points at the client's own words for an option that a provider cannot be told.
    fn pointed(&self, refused: Refused) -> Refused {
        let places: &[(&str, &str)] = match self.dialect {
            Dialect::Messages => &[
                ("/response_format/json_schema", "/output_config/format"),
                ("/response_format", "/output_config/format"),
                ("/reasoning_effort", "/output_config/effort"),
                ("/parallel_tool_calls", "/tool_choice/disable_parallel_tool_use"),
                ("/stop", "/stop_sequences"),
            ],
            Dialect::Responses => &[
                ("/response_format/json_schema", "/text/format"),
                ("/response_format", "/text/format"),
                ("/reasoning_effort", "/reasoning/effort"),
                ("/verbosity", "/text/verbosity"),
            ],
            Dialect::ChatCompletions | Dialect::Embeddings | Dialect::Unspecified => &[],
        };
        let told = places.iter().find_map(|(chat, theirs)| {
            refused.strip_prefix(chat).map(|rest| format!("{theirs}{rest}"))
        });
        told.unwrap_or(refused)
    }

    /// Returns how many tools an answer may call: one, when the client takes one at a time.
    pub(crate) fn most_calls(&self) -> usize {
        let parallel = self.chat.as_ref().ok().and_then(|chat| chat.get("parallel_tool_calls"));
        if parallel == Some(&Value::Bool(false)) { 1 } else { usize::MAX }
    }

    /// Returns the text of the last message that a user wrote.
    pub(crate) fn question(&self) -> String {
        let chat = self.chat.as_ref().ok();
        let messages = chat.and_then(|chat| chat.get("messages")).and_then(Value::as_array);
        let mut users = messages.into_iter().flatten().rev().filter(|m| m["role"] == "user");
        match users.next().map(|message| &message["content"]) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(parts)) => {
                parts.iter().filter_map(|part| part["text"].as_str()).collect::<Vec<_>>().join("\n")
            }
            _ => String::new(),
        }
    }
}

/// Reads a body.
///
/// # Errors
/// [`Error::Invalid`] if it is not JSON.
pub(crate) fn json(body: &[u8]) -> Result<Value, Error> {
    let invalid = |fault| Error::Invalid(format!("the body is not valid JSON: {fault}"));
    serde_json::from_slice(body).map_err(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_is_pointed_at() {
        let cases = [
            ("{", "the body is not valid JSON"),
            ("[]", "the body is not a JSON object"),
            ("{}", "/model"),
            (r#"{"model":"a"}"#, "/messages"),
            (r#"{"model":"a","messages":[]}"#, "/messages"),
            (r#"{"model":"a","messages":[{}]}"#, "/messages/0/role"),
            (
                r#"{"model":"a","messages":[{"role":"user","content":"x"}],"max_tokens":-1}"#,
                "/max_tokens",
            ),
            (r#"{"model":"a","messages":[{"role":"user","content":"x"}],"n":0}"#, "/n"),
            (
                r#"{"model":"a","messages":[{"role":"user","content":"x"}],"max_completion_tokens":1,"max_tokens":2}"#,
                "/max_tokens: 2 contradicts /max_completion_tokens",
            ),
        ];
        for (body, fault) in cases {
            let told = ChatRequest::parse(body.as_bytes(), Dialect::ChatCompletions)
                .unwrap_err()
                .to_string();
            assert!(told.starts_with(fault), "{body}: {told}");
        }
    }

    #[test]
    fn what_is_to_be_embedded_is_counted_or_refused() {
        for (input, wanted) in [
            (r#""a""#, Some(1)),
            (r#"["a","b"]"#, Some(2)),
            ("[1,2,3]", Some(1)),
            ("[[1],[2,3]]", Some(2)),
            ("[]", None),
            (r#"["a",1]"#, None),
            ("\"\"", None),
            ("{}", None),
        ] {
            let body = format!(r#"{{"model":"m","input":{input}}}"#);
            let request = ChatRequest::parse(body.as_bytes(), Dialect::Embeddings);
            assert_eq!(request.ok().map(|request| request.inputs()), wanted, "{input}");
        }
    }

    #[test]
    fn an_answer_repeats_what_was_said_besides_the_input_which_tells_calls_apart() {
        let body = r#"{"model":"a","input":"q","instructions":"i"}"#;
        let request = ChatRequest::parse(body.as_bytes(), Dialect::Responses).unwrap();
        assert_eq!(request.body().unwrap()["input"], "q");
        assert_eq!(
            (request.wire().get("input"), &request.wire()["instructions"]),
            (None, &json!("i"))
        );
    }

    #[test]
    fn the_most_that_may_be_written_is_told_by_the_name_that_a_server_knows() {
        for said in LIMITS {
            let body = format!(
                r#"{{"model":"a","messages":[{{"role":"user","content":"q"}}],"{said}":7}}"#
            );
            let request = ChatRequest::parse(body.as_bytes(), Dialect::ChatCompletions).unwrap();
            for told in LIMITS {
                let sent = request.for_chat("b", (told, 9), false).unwrap();
                let other = if told == LIMITS[0] { LIMITS[1] } else { LIMITS[0] };
                assert_eq!((&sent[told], sent.get(other)), (&json!(7), None), "{said}");
            }
        }
    }

    #[test]
    fn what_is_predicted_wrongly_is_written_too() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":"q"}],"max_tokens":10,"n":2,
            "prediction":{"type":"content","content":"\u0001\u0001\u0001\u0001\u0001"}}"#;
        let request = ChatRequest::parse(body.as_bytes(), Dialect::ChatCompletions).unwrap();
        assert_eq!(request.output_tokens(9), 10);
        assert!(request.all_output_tokens(9) >= 2 * (10 + 5));
    }

    #[test]
    fn what_the_router_does_not_know_goes_through() {
        let body = r#"{"model":"a","messages":[{"role":"user","content":"q"}],"seed":7}"#;
        let request = ChatRequest::parse(body.as_bytes(), Dialect::ChatCompletions).unwrap();
        let sent = request.for_chat("b", ("max_tokens", 9), true).unwrap();
        assert_eq!(sent["max_tokens"], 9, "what was not asked for is limited all the same");
        assert_eq!((&sent["model"], &sent["seed"]), (&json!("b"), &json!(7)));
        assert_eq!(sent["stream_options"]["include_usage"], json!(true));
        assert_eq!(request.question(), "q");
    }
}

//! Conversations with tools: a model is asked, the tools that it asks for are called, and it is asked
//! again, until it answers. All of it is one run: its calls count together, and each is in its journal.

mod gave;
mod offer;
mod speech;
mod wanted;

use std::sync::Arc;
use std::time::Instant;

use futures::{StreamExt as _, stream};
use proto::bridge::bridge_service_client::BridgeServiceClient;
use proto::bridge::{CallToolRequest, CallToolResponse};
use proto::orchestrator::event::Kind;
use proto::orchestrator::{
    Completed, ConverseResponse, Offered, Started, ToolAnswered, ToolCalled, Turn,
};
use proto::router::router_service_client::RouterServiceClient;
use proto::router::stream_complete_response::Event as Piece;
use proto::router::{
    Call, Dialect, KeepResponseRequest, Kept, ReadResponseRequest, Receipt, StreamCompleteRequest,
    StreamCompleteResponse,
};
use runtime::transport::Peer;
use serde_json::{Map, Value};
use tokio::sync::mpsc;
use tonic::Status;
use types::{CallContext, ErrorKind, Privacy, RunId};

use self::offer::Toolbox;
use self::speech::{Asked, Chat, Gave, Responses, Speech, Stop};
use crate::config::Tools;
use crate::journal::{Journal, Record};
use crate::{Error, Peers, journal};

/// Calls of one turn beyond these are not made, and the model is told so.
const CALLS: usize = 32;

/// The largest answer of a peer that is read, in bytes: a response has all of its output.
const MOST_BYTES: usize = 64 * 1024 * 1024;

type Listener = mpsc::Sender<Result<ConverseResponse, Status>>;

/// A conversation that is known to be good, and which tools it may use.
pub(crate) struct Conversation {
    context: CallContext,
    peers: Peers,
    limits: Tools,
    record: Record,
    run: RunId,
    /// What the client sent.
    request: Vec<u8>,
    dialect: Dialect,
    streams: bool,
    toolbox: Toolbox,
    /// The output of the response that is continued.
    before: Vec<Value>,
    total: Receipt,
}

/// What a client says in its request, of either dialect.
enum Said {
    Chat(Chat),
    Responses(Responses),
}

impl Said {
    fn speech(&mut self) -> &mut dyn Speech {
        match self {
            Self::Chat(chat) => chat,
            Self::Responses(responses) => responses,
        }
    }
}

/// Reads a request and looks its tools up, and then answers to `listener`, until it is gone.
///
/// # Errors
/// [`Error::Invalid`] with a JSON pointer to what is wrong, such as a server that has no tool for it.
pub(crate) async fn converse(
    mut context: CallContext,
    call: Call,
    journal: Arc<Journal>,
    peers: Peers,
    limits: Tools,
    listener: Listener,
) -> Result<(), Error> {
    let invalid = |fault: &str| Error::Invalid(fault.to_owned());
    let dialect = call.dialect();
    if !matches!(dialect, Dialect::ChatCompletions | Dialect::Responses) {
        return Err(invalid("/tools: MCP servers are for chat completions and Responses"));
    }
    let body: Value = serde_json::from_slice(&call.body)
        .map_err(|fault| Error::Invalid(format!("the body is not valid: {fault}")))?;
    let Value::Object(mut body) = body else {
        return Err(invalid("the body is not a JSON object"));
    };
    if dialect == Dialect::ChatCompletions && body.get("n").is_some_and(|n| !n.is_null() && *n != 1)
    {
        return Err(invalid("/n: with tools of MCP servers there is one answer"));
    }
    let tools = body.get("tools").cloned().unwrap_or_default();
    let wanted = wanted::take(&mut body, dialect)?;
    let theirs = speech::theirs(&body, dialect);
    let run = RunId::generate();
    context.run = Some(run.clone());
    let mut before = Vec::new();
    if let (Dialect::Responses, Some(Value::String(id))) =
        (dialect, body.get("previous_response_id"))
    {
        before = continued(&mut context, &peers.router, id).await?;
    }
    let toolbox = Toolbox::open(&peers.bridge, &mut context, &wanted, &theirs).await?;
    speech::check_choice(&body, &toolbox)?;
    let streams = body.get("stream") == Some(&Value::Bool(true));
    let said = match dialect {
        Dialect::Responses => Said::Responses(Responses::new(body, tools, &toolbox)),
        _ => Said::Chat(Chat::new(body)),
    };
    let conversation = Conversation {
        record: Record::new(context.tenant.clone(), run.clone(), journal),
        context,
        peers,
        limits,
        run,
        request: call.body.to_vec(),
        dialect,
        streams,
        toolbox,
        before,
        total: Receipt::default(),
    };
    let work = tracing::Instrument::in_current_span(conversation.run(said, listener));
    tokio::spawn(work);
    Ok(())
}

/// Reads the output of a response that is continued; the call is at least as private from there on, and
/// so are the tools that it may use.
async fn continued(
    context: &mut CallContext,
    router: &Peer,
    id: &str,
) -> Result<Vec<Value>, Error> {
    let request = ReadResponseRequest { id: id.to_owned() };
    let request = runtime::context::request(context, request);
    let reply = models(router).read_response(request).await.map_err(|status| {
        let at = format!("/previous_response_id: {}", status.message());
        match runtime::error::kind_of(&status) {
            ErrorKind::NotFound | ErrorKind::Invalid => Error::Invalid(at),
            _ => Error::Peer(status),
        }
    })?;
    let reply = reply.into_inner();
    if reply.private {
        context.privacy = Privacy::Private;
    }
    let mut response: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    match response["output"].take() {
        Value::Array(output) => Ok(output),
        _ => Ok(Vec::new()),
    }
}

fn models(router: &Peer) -> RouterServiceClient<Peer> {
    RouterServiceClient::new(router.clone())
        .max_decoding_message_size(MOST_BYTES)
        .max_encoding_message_size(usize::MAX)
}

impl Conversation {
    async fn run(mut self, mut said: Said, listener: Listener) {
        let ended = tokio::select! {
            ended = self.go(&mut said, &listener) => ended,
            // Whatever is under way ends with it: what was asked of a model is paid by the router.
            () = listener.closed() => Err(Error::Gone),
        };
        let Err(error) = ended else { return };
        let (failed, status) = journal::failure(error);
        if let Err(fault) = self.record.write(failed).await {
            tracing::warn!(%fault, run = self.run.as_str(), "the end of a run is not in its journal");
        }
        let _ = listener.send(Err(status)).await;
    }

    async fn go(&mut self, said: &mut Said, listener: &Listener) -> Result<(), Error> {
        self.record.write(Kind::Started(Started::default())).await?;
        let tools = self.toolbox.tools.iter().map(|tool| tool.bridged.clone()).collect();
        self.record.write(Kind::Offered(Offered { tools })).await?;
        if let Said::Responses(responses) = said {
            let approved = self.approved(responses)?;
            self.call_all(approved, responses, listener).await?;
        }
        let speech = said.speech();
        for number in 1..=self.limits.steps {
            let last = number == self.limits.steps;
            let turn = self.ask(number, last, speech, listener).await?;
            if turn.calls.is_empty() || last {
                let stop = if turn.calls.is_empty() { Stop::Answered } else { Stop::Limit };
                return self.finish(stop, speech, listener).await;
            }
            self.call_all(turn.calls, speech, listener).await?;
            if turn.over {
                break;
            }
        }
        self.finish(Stop::Answered, speech, listener).await
    }

    /// Has a model take a turn.
    async fn ask(
        &mut self,
        number: u32,
        last: bool,
        speech: &mut dyn Speech,
        listener: &Listener,
    ) -> Result<speech::Turn, Error> {
        let unavailable = |message: &str| runtime::error::status(ErrorKind::Unavailable, message);
        let body = speech.body(&self.toolbox, last).to_string().into_bytes().into();
        let call = Some(Call { body, groundings: Vec::new(), dialect: self.dialect.into() });
        let request = runtime::context::request(&self.context, StreamCompleteRequest { call });
        let mut pieces = models(&self.peers.router).stream_complete(request).await?.into_inner();
        let receipt = loop {
            let piece = pieces.message().await?.and_then(|piece| piece.event);
            match piece.ok_or_else(|| unavailable("the answer ended early"))? {
                Piece::Started(receipt) if number == 1 => {
                    self.send(Piece::Started(receipt), listener).await?;
                }
                Piece::Started(_) => {}
                Piece::Chunk(chunk) => {
                    let chunk = serde_json::from_slice(&chunk);
                    let chunk = chunk.map_err(|_| unavailable("an answer is not JSON"))?;
                    let events = speech.piece(chunk);
                    self.show(events, listener).await?;
                }
                Piece::Finished(receipt) => break receipt,
                Piece::Failed(message) => return Err(unavailable(&message).into()),
            }
        };
        let mut turn = speech.turn(&self.toolbox);
        let calls = u32::try_from(turn.calls.len()).unwrap_or(u32::MAX);
        let took = Turn {
            number,
            provider: receipt.provider.clone(),
            model: receipt.model.clone(),
            input_tokens: receipt.input_tokens,
            output_tokens: receipt.output_tokens,
            cost_nanos: receipt.cost_nanos,
            calls,
        };
        self.count(receipt);
        self.record.write(Kind::Turn(took)).await?;
        self.show(std::mem::take(&mut turn.events), listener).await?;
        Ok(turn)
    }

    /// Makes the calls of a turn, some at once, and tells what they gave in their order.
    async fn call_all(
        &mut self,
        calls: Vec<Asked>,
        speech: &mut dyn Speech,
        listener: &Listener,
    ) -> Result<(), Error> {
        for call in &calls {
            let called = ToolCalled {
                call_id: call.id.clone(),
                tool: call.tool.bridged.clone(),
                arguments: call.arguments.clone(),
            };
            self.record.write(Kind::ToolCalled(called)).await?;
            let events = speech.calling(call);
            self.show(events, listener).await?;
        }
        let (bridge, context) = (self.peers.bridge.clone(), self.context.clone());
        let most = self.limits.result_bytes;
        let given = calls.iter().enumerate().map(|(place, call)| {
            let (bridge, context) = (bridge.clone(), &context);
            async move { (call, give(bridge, context, call, place, most).await) }
        });
        let given: Vec<_> = given.collect();
        let mut given = stream::iter(given).buffered(self.limits.concurrency);
        while let Some((call, (gave, bytes, private))) = given.next().await {
            let message = gave.output.as_ref().err().cloned().unwrap_or_default();
            let answered = ToolAnswered {
                call_id: call.id.clone(),
                outcome: gave.outcome.to_owned(),
                message,
                bytes,
                took_ms: gave.took_ms,
                private,
            };
            self.record.write(Kind::ToolAnswered(answered)).await?;
            if private {
                self.context.privacy = self.context.privacy.raised_to(Privacy::Private);
            }
            let events = speech.called(call, &gave);
            self.show(events, listener).await?;
        }
        Ok(())
    }

    /// Reads what the client approves of.
    fn approved(&self, responses: &mut Responses) -> Result<Vec<Asked>, Error> {
        let mut approved = Vec::new();
        for approval in responses.approvals() {
            let known = self.before.iter().find(|item| {
                item["type"] == "mcp_approval_request" && item["id"] == approval.id.as_str()
            });
            let request = approval.request.as_ref().or(known).cloned().ok_or_else(|| {
                let (at, id) = (&approval.at, &approval.id);
                Error::Invalid(format!("{at}: there is no request {id:?} in what is continued"))
            })?;
            if !approval.approves {
                responses.refused(&approval, &request);
                continue;
            }
            let call = responses.approved(&approval, &request, &self.toolbox).ok_or_else(|| {
                let (at, server, name) = (&approval.at, &request["server_label"], &request["name"]);
                Error::Invalid(format!("{at}: the tool {name} of server {server} is not offered"))
            })?;
            approved.push(call);
        }
        Ok(approved)
    }

    async fn finish(
        &mut self,
        stop: Stop,
        speech: &mut dyn Speech,
        listener: &Listener,
    ) -> Result<(), Error> {
        let mut answer = speech.answer(stop, self.run.as_str());
        if self.dialect == Dialect::Responses {
            answer["store"] = self.keep(&answer).await.into();
        }
        let total = self.total.clone();
        let completed = Completed {
            answer: speech.text(&answer),
            route: total.route.clone(),
            provider: total.provider.clone(),
            model: total.model.clone(),
            input_tokens: total.input_tokens,
            output_tokens: total.output_tokens,
            estimated: total.estimated,
            cost_nanos: total.cost_nanos.saturating_add(total.spent_besides_nanos),
            failures: total.failures.clone(),
            ..Completed::default()
        };
        self.record.write(Kind::Completed(completed)).await?;
        if self.streams {
            let events = speech.end(&answer);
            self.show(events, listener).await?;
        } else {
            let whole = answer.to_string().into_bytes().into();
            self.send(Piece::Chunk(whole), listener).await?;
        }
        self.send(Piece::Finished(total), listener).await
    }

    /// Keeps a response as its client gets it, and tells whether it is kept.
    async fn keep(&self, answer: &Value) -> bool {
        let request = KeepResponseRequest {
            request: self.request.clone().into(),
            response: answer.to_string().into_bytes().into(),
        };
        let request = runtime::context::request(&self.context, request);
        match models(&self.peers.router).keep_response(request).await {
            Ok(reply) => reply.into_inner().kept,
            Err(fault) => {
                tracing::warn!(fault = fault.message(), "a response was not kept");
                false
            }
        }
    }

    /// Adds a turn to what all of them took; who answered is who did last.
    fn count(&mut self, turn: Receipt) {
        let total = std::mem::take(&mut self.total);
        // An answer of several calls is not kept as one.
        let kept = if total.provider.is_empty() { turn.kept() } else { Kept::Unspecified };
        let mut failures = total.failures;
        failures.extend_from_slice(&turn.failures);
        self.total = Receipt {
            estimated: total.estimated || turn.estimated,
            input_tokens: total.input_tokens.saturating_add(turn.input_tokens),
            output_tokens: total.output_tokens.saturating_add(turn.output_tokens),
            cached_tokens: total.cached_tokens.saturating_add(turn.cached_tokens),
            cache_write_tokens: total.cache_write_tokens.saturating_add(turn.cache_write_tokens),
            reasoning_tokens: total.reasoning_tokens.saturating_add(turn.reasoning_tokens),
            cost_nanos: total.cost_nanos.saturating_add(turn.cost_nanos),
            spent_besides_nanos: total.spent_besides_nanos.saturating_add(turn.spent_besides_nanos),
            at_stake_nanos: total.at_stake_nanos.saturating_add(turn.at_stake_nanos),
            failures,
            kept: kept.into(),
            ..turn
        };
    }

    /// Shows events to a client that streams.
    async fn show(&self, events: Vec<Value>, listener: &Listener) -> Result<(), Error> {
        if self.streams {
            for event in events {
                let chunk = event.to_string().into_bytes().into();
                self.send(Piece::Chunk(chunk), listener).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, piece: Piece, listener: &Listener) -> Result<(), Error> {
        let piece = Some(StreamCompleteResponse { event: Some(piece) });
        let response = ConverseResponse { run_id: self.run.to_string(), piece };
        listener.send(Ok(response)).await.map_err(|_| Error::Gone)
    }
}

/// Calls a tool; returns what a model is told, how much there was, and whether it is private. A model may
/// do better after a fault, so that none ends the run.
async fn give(
    bridge: Peer,
    context: &CallContext,
    call: &Asked,
    place: usize,
    most: usize,
) -> (Gave, u64, bool) {
    let begun = Instant::now();
    let called = match arguments(&call.arguments) {
        _ if place >= CALLS => {
            Err(("failed", format!("more than {CALLS} calls at once are not made")))
        }
        Err(fault) => Err(("failed", fault)),
        Ok(arguments_json) => {
            let name = call.tool.bridged.clone();
            let request = CallToolRequest { name, arguments_json };
            let request = runtime::context::request(context, request);
            let mut bridge = BridgeServiceClient::new(bridge).max_decoding_message_size(MOST_BYTES);
            let called = bridge.call_tool(request).await.map(tonic::Response::into_inner);
            called.map_err(|status| {
                let denied = runtime::error::kind_of(&status) == ErrorKind::Denied;
                (if denied { "denied" } else { "failed" }, status.message().to_owned())
            })
        }
    };
    let took_ms = u64::try_from(begun.elapsed().as_millis()).unwrap_or(u64::MAX);
    match called {
        Err((outcome, fault)) => {
            (Gave { output: Err(gave::cut(fault, most)), outcome, took_ms }, 0, call.tool.private)
        }
        Ok(result) => {
            let CallToolResponse { is_error, private, .. } = result;
            let text = gave::text(&result);
            let bytes = text.len() as u64;
            let text = gave::cut(text, most);
            let (output, outcome) =
                if is_error { (Err(text), "tool_error") } else { (Ok(text), "ok") };
            (Gave { output, outcome, took_ms }, bytes, private || call.tool.private)
        }
    }
}

/// Reads the arguments that a model wrote: nothing is an empty object.
fn arguments(text: &str) -> Result<String, String> {
    if text.trim().is_empty() {
        return Ok("{}".to_owned());
    }
    match serde_json::from_str::<Map<String, Value>>(text) {
        Ok(_) => Ok(text.to_owned()),
        Err(fault) => Err(format!("the arguments are not a JSON object: {fault}")),
    }
}

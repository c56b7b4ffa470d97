//! Pins and calls, as they are asked for over gRPC.

use proto::bridge::{
    Change, DecidePinRequest, DecidePinResponse, ListCallsRequest, ListCallsResponse,
    ListPinsRequest, ListPinsResponse, Pin as WirePin, PinState, ToolCall,
};
use serde_json::Value;
use types::CallContext;

use crate::gate::{Difference, Gate, differences};
use crate::store::{Call, Decider, Known, Pin, State};
use crate::{Digest, Error};

/// How many definitions of one tool are told with their differences.
const TOLD: usize = 50;

/// How many calls are told at once, at most and unless asked otherwise.
const MOST_CALLS: u32 = 1_000;
const CALLS: u32 = 100;

/// Lists pins; those of one tool with their definitions, and how each differs from the approved one.
pub(crate) async fn list_pins(
    gate: &Gate,
    request: &ListPinsRequest,
) -> Result<ListPinsResponse, Error> {
    let wanted = match request.state() {
        PinState::Unspecified => None,
        PinState::Waiting => Some(State::Waiting),
        PinState::Approved => Some(State::Approved),
        PinState::Rejected => Some(State::Rejected),
        PinState::Replaced => Some(State::Replaced),
    };
    let all = gate.store().pins(None, None).await?;
    let one_tool = !request.name.is_empty();
    let all: Vec<Pin> =
        all.into_iter().filter(|pin| !one_tool || name(&pin.known) == request.name).collect();
    if one_tool && all.is_empty() {
        return Err(Error::UnknownPin(request.name.clone()));
    }
    let approved = all.iter().find(|pin| pin.known.state == State::Approved);
    let approved = approved.filter(|_| one_tool).map(|pin| read(&pin.definition)).transpose()?;
    let shown = all.iter().filter(|pin| wanted.is_none_or(|state| pin.known.state == state));
    let pins = shown.take(if one_tool { TOLD } else { usize::MAX }).map(|pin| {
        let mut wire = to_wire(pin);
        if one_tool {
            wire.definition_json.clone_from(&pin.definition);
            if let Some(approved) = &approved {
                let changes = differences(approved, &read(&pin.definition)?);
                wire.changes = changes.into_iter().map(change).collect();
            }
        }
        Ok(wire)
    });
    Ok(ListPinsResponse { pins: pins.collect::<Result<_, Error>>()? })
}

/// Approves or rejects the definition with a pin.
pub(crate) async fn decide_pin(
    gate: &Gate,
    context: &CallContext,
    request: &DecidePinRequest,
) -> Result<DecidePinResponse, Error> {
    let unknown = || Error::UnknownPin(request.name.clone());
    let digest: Digest = request.pin.parse().map_err(|()| {
        Error::Invalid(format!("pin {:?} is not 64 lower-case hexadecimal digits", request.pin))
    })?;
    let state = if request.approve { State::Approved } else { State::Rejected };
    let known = gate.store().known().await?.into_iter();
    let mut known = known.filter(|one| name(one) == request.name && one.digest == digest);
    let pin = Known { state, ..known.next().ok_or_else(unknown)? };
    let by = Decider {
        tenant: context.tenant.to_string(),
        user: context.user.to_string(),
        key: context.key.as_ref().map(ToString::to_string),
    };
    if !gate.store().decide(gate.now_ms(), &pin, &by).await? {
        return Err(unknown());
    }
    gate.pins_changed();
    tracing::info!(
        tenant = by.tenant, user = by.user, server = pin.server, tool = pin.tool, pin = %digest,
        state = state.as_str(), "a definition was decided on"
    );
    Ok(DecidePinResponse {})
}

/// Lists calls of the caller's tenant, the newest first.
pub(crate) async fn list_calls(
    gate: &Gate,
    context: &CallContext,
    request: &ListCallsRequest,
) -> Result<ListCallsResponse, Error> {
    let most = match request.limit {
        0 => CALLS,
        limit if limit <= MOST_CALLS => limit,
        limit => return Err(Error::Invalid(format!("limit: {limit} is more than {MOST_CALLS}"))),
    };
    let calls = gate.store().calls(&context.tenant, request.before, most).await?;
    Ok(ListCallsResponse { calls: calls.into_iter().map(call).collect() })
}

fn name(known: &Known) -> String {
    format!("{}__{}", known.server, known.tool)
}

fn read(definition: &str) -> Result<Value, Error> {
    serde_json::from_str(definition).map_err(Error::unreadable)
}

fn to_wire(pin: &Pin) -> WirePin {
    let by = pin.decided_by.clone();
    let state = match pin.known.state {
        State::Waiting => PinState::Waiting,
        State::Approved => PinState::Approved,
        State::Rejected => PinState::Rejected,
        State::Replaced => PinState::Replaced,
    };
    WirePin {
        name: name(&pin.known),
        server: pin.known.server.clone(),
        pin: pin.known.digest.to_string(),
        state: state.into(),
        findings: pin.findings.clone(),
        seen_at_ms: pin.seen_at,
        decided_at_ms: pin.decided_at,
        decided_by_tenant: by.as_ref().map(|by| by.tenant.clone()),
        decided_by_user: by.as_ref().map(|by| by.user.clone()),
        decided_by_key: by.and_then(|by| by.key),
        definition_json: String::new(),
        changes: Vec::new(),
    }
}

fn change(difference: Difference) -> Change {
    let Difference { at, before, after } = difference;
    Change { at, before_json: before, after_json: after }
}

fn call((number, call): (i64, Call)) -> ToolCall {
    ToolCall {
        number,
        at_ms: call.at,
        team: call.team,
        user: call.user,
        key: call.key,
        run: call.run,
        privacy: call.privacy,
        server: call.server,
        tool: call.tool,
        pin: call.pin.map(|pin| pin.to_string()),
        arguments_hash: call.arguments.to_string(),
        decision: call.decision,
        rule: call.rule,
        outcome: call.outcome,
        micros: call.micros,
        trace: call.trace,
        request: call.request,
    }
}

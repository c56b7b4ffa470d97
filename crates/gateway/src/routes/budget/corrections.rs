use axum::Extension;
use axum::extract::State as Of;
use axum::http::StatusCode;
use proto::budget::CorrectRequest;
use proto::budget::budget_service_client::BudgetServiceClient;
use serde::{Deserialize, Serialize};
use types::{CallContext, NanoUsd, ReservationId};

use super::{Named, Whose};
use crate::money::{Amount, Usd, check_currency};
use crate::routes::{Json, Object};
use crate::{App, Error};

/// What is to be added to what was spent.
#[derive(Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct Correction {
    /// Where it counts, 1 to 16; it counts for the whole tenant besides
    #[schema(value_type = Vec<Named>, min_items = 1, max_items = 16)]
    scopes: Vec<Object<Named>>,
    /// USD, not zero, at most nine decimal places; less than zero takes away
    #[schema(value_type = f64)]
    amount: Amount,
    /// Why, in 1 to 1000 bytes
    #[schema(min_length = 1, max_length = 1000)]
    reason: String,
    /// `USD`, which it is too when absent
    currency: Option<String>,
}

/// What was added to what was spent.
#[derive(Serialize, utoipa::ToSchema)]
pub(crate) struct Corrected {
    /// Its line in the history names it so
    id: String,
    /// Where it counts besides the whole tenant
    scopes: Vec<Whose>,
    /// In USD
    #[schema(value_type = f64)]
    amount: Usd,
    reason: String,
}

/// Changes what was spent, by a line of its own in the history; its author is the caller.
///
/// The same `Idempotency-Key` again changes nothing; with another amount or other scopes it is a conflict.
#[utoipa::path(post, operation_id = "correct_spend", path = "/api/v1/budget/corrections", tag = "budget", request_body = Correction,
    params(("Idempotency-Key" = Option<String>, Header, description = "Of this correction alone, in 1 to 200 bytes")),
    responses((status = 201, description = "It is in the history", body = Corrected),
        (status = 400, description = "No amount, no reason, an unknown scope, or less than nothing would be spent"),
        (status = 409, description = "The key was used for another correction")))]
pub(crate) async fn create(
    Of(app): Of<App>,
    Extension(context): Extension<CallContext>,
    Json(wanted): Json<Correction>,
) -> Result<(StatusCode, axum::Json<Corrected>), Error> {
    check_currency(wanted.currency.as_deref())?;
    let amount = wanted.amount.read("/amount")?;
    if amount == NanoUsd::ZERO {
        return Err(Error::invalid("/amount: 0 changes nothing"));
    }
    let scopes = wanted.scopes.into_iter().map(|Object(named)| named.read(&context));
    let scopes = scopes.collect::<Result<Vec<_>, _>>()?;
    let shown = scopes.iter().map(|scope| Whose::of(&context, scope)).collect();
    let id = id(context.idempotency_key.as_deref())?.to_string();
    let (correction_id, reason) = (id.clone(), wanted.reason.clone());
    let request = CorrectRequest { correction_id, scopes, amount_nanos: amount.nanos(), reason };
    let request = runtime::context::request(&context, request);
    BudgetServiceClient::new(app.peers.budget.clone()).correct(request).await?;
    let corrected = Corrected { id, scopes: shown, amount: Usd(amount), reason: wanted.reason };
    Ok((StatusCode::CREATED, axum::Json(corrected)))
}

/// Returns a correction's id; one that a client chose is never that of a call's reservation.
fn id(idempotency_key: Option<&str>) -> Result<ReservationId, Error> {
    let name = match idempotency_key {
        Some(key) if (1..=200).contains(&key.len()) => key.to_owned(),
        Some(_) => return Err(Error::invalid("idempotency-key: 1 to 200 bytes")),
        None => ReservationId::generate().to_string(),
    };
    Ok(ReservationId::new(format!("correction:{name}"))?)
}

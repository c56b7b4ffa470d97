use axum::Json;
use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use proto::router::Dialect;
use serde_json::Value;
use tonic::Status;
use types::{Classify, ErrorKind, NanoUsd};

/// What a client is told: a kind, and a message that names the fault.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    kind: ErrorKind,
    message: String,
    /// Overrides the kind's own status, such as 413.
    status: Option<StatusCode>,
    /// When to come back, in seconds, where that is known.
    back_after: Option<u32>,
    /// What was spent in vain.
    spent: NanoUsd,
}

/// What a call cost, its failed attempts included.
pub(crate) const COST: &str = "x-baton-cost-usd";

impl Error {
    pub(crate) fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        let (message, spent) = (message.into(), NanoUsd::ZERO);
        Self { kind, message, status: None, back_after: None, spent }
    }

    pub(crate) fn invalid(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, message)
    }

    pub(crate) fn with_status(status: StatusCode, message: impl Into<String>) -> Self {
        Self { status: Some(status), ..Self::invalid(message) }
    }

    /// Says when to come back.
    pub(crate) fn back_after(self, seconds: u32) -> Self {
        Self { back_after: Some(seconds), ..self }
    }

    /// Returns true if asking again later may help.
    pub(crate) fn is_unavailable(&self) -> bool {
        self.kind == ErrorKind::Unavailable
    }

    /// Returns the body in a dialect's own shape.
    pub(crate) fn body(&self, dialect: Dialect) -> Value {
        let mut body = runtime::error::body(dialect, self.kind, &self.message);
        if dialect == Dialect::Messages && self.status == Some(StatusCode::PAYLOAD_TOO_LARGE) {
            body["error"]["type"] = "request_too_large".into();
        }
        body
    }
}

impl Classify for Error {
    fn kind(&self) -> ErrorKind {
        self.kind
    }
}

impl IntoResponse for Error {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(runtime::error::http_status(self.kind));
        let status = self.status.or(status.ok()).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = Json(self.body(Dialect::ChatCompletions));
        let mut response = (status, body).into_response();
        response.extensions_mut().insert(self.clone());
        let headers = response.headers_mut();
        if status == StatusCode::PAYLOAD_TOO_LARGE {
            // What was not read of the body is in the way of the connection's next request.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        if self.spent > NanoUsd::ZERO
            && let Ok(spent) = HeaderValue::from_str(&self.spent.to_string())
        {
            headers.insert(COST, spent);
        }
        match self.kind {
            ErrorKind::Unavailable | ErrorKind::RateLimited => {
                let seconds = self.back_after.unwrap_or(1);
                headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
            }
            ErrorKind::Unauthenticated => {
                headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            // Asking again does not help; the SDKs of the OpenAI family understand this header.
            ErrorKind::BudgetExceeded => {
                headers.insert("x-should-retry", HeaderValue::from_static("false"));
            }
            _ => {}
        }
        response
    }
}

/// Returns the dialect of errors on a route.
pub(crate) fn dialect(path: &str) -> Dialect {
    match path.starts_with("/v1/messages") {
        true => Dialect::Messages,
        false => Dialect::ChatCompletions,
    }
}

/// Says an error in the dialect of the route that it happened on, wherever it happened.
pub(crate) fn in_dialect(dialect: Dialect, response: Response) -> Response {
    match response.extensions().get::<Error>() {
        Some(error) if dialect == Dialect::Messages => {
            let body = Json(error.body(Dialect::Messages)).into_response().into_body();
            let (mut parts, _) = response.into_parts();
            parts.headers.remove(header::CONTENT_LENGTH);
            Response::from_parts(parts, body)
        }
        _ => response,
    }
}

impl From<Status> for Error {
    fn from(status: Status) -> Self {
        let (kind, message) = runtime::error::told(&status);
        Self { spent: runtime::error::spent(&status), ..Self::new(kind, message) }
    }
}

impl From<identity::Error> for Error {
    fn from(fault: identity::Error) -> Self {
        Self::new(fault.kind(), fault.to_string())
    }
}

impl From<types::IdError> for Error {
    fn from(fault: types::IdError) -> Self {
        Self::invalid(fault.to_string())
    }
}

impl From<JsonRejection> for Error {
    fn from(fault: JsonRejection) -> Self {
        let text = fault.body_text();
        let told = text.strip_prefix("Failed to deserialize the JSON body into the target type: ");
        // Too large and of another type have a status of their own; whatever else is wrong is a 400.
        let status = match fault.status() {
            status @ (StatusCode::PAYLOAD_TOO_LARGE | StatusCode::UNSUPPORTED_MEDIA_TYPE) => {
                Some(status)
            }
            _ => None,
        };
        Self { status, ..Self::invalid(told.unwrap_or(&text)) }
    }
}

impl From<QueryRejection> for Error {
    fn from(fault: QueryRejection) -> Self {
        Self::invalid(fault.body_text())
    }
}

impl From<PathRejection> for Error {
    fn from(fault: PathRejection) -> Self {
        Self::invalid(fault.body_text())
    }
}

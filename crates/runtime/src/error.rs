//! The one table from kinds of errors to gRPC codes and HTTP statuses, and how clients are told.

use proto::router::Dialect;
use serde_json::{Value, json};
use tonic::metadata::MetadataValue;
use tonic::{Code, Status};
use types::{Classify, ErrorKind, NanoUsd};

const KIND: &str = "baton-error-kind";

/// What was spent on a call that failed, in nano-USD.
const SPENT: &str = "baton-spent-nanos";

/// Kind, its name on the wire, gRPC code, HTTP status.
const TABLE: [(ErrorKind, &str, Code, u16); 9] = [
    (ErrorKind::Invalid, "invalid_request", Code::InvalidArgument, 400),
    (ErrorKind::Unauthenticated, "unauthenticated", Code::Unauthenticated, 401),
    (ErrorKind::Denied, "denied", Code::PermissionDenied, 403),
    (ErrorKind::NotFound, "not_found", Code::NotFound, 404),
    (ErrorKind::Conflict, "conflict", Code::Aborted, 409),
    (ErrorKind::BudgetExceeded, "budget_exceeded", Code::ResourceExhausted, 402),
    (ErrorKind::RateLimited, "rate_limit_exceeded", Code::ResourceExhausted, 429),
    (ErrorKind::Unavailable, "unavailable", Code::Unavailable, 503),
    (ErrorKind::Internal, "internal", Code::Internal, 500),
];

fn row(kind: ErrorKind) -> (ErrorKind, &'static str, Code, u16) {
    let found = TABLE.iter().find(|row| row.0 == kind);
    found.copied().unwrap_or((ErrorKind::Internal, "internal", Code::Internal, 500))
}

/// Returns the kind's name on the wire, such as `budget_exceeded`.
#[must_use]
pub fn code(kind: ErrorKind) -> &'static str {
    row(kind).1
}

/// Returns the kind's HTTP status.
#[must_use]
pub fn http_status(kind: ErrorKind) -> u16 {
    row(kind).3
}

/// Returns the status for `error`. The inside of an internal error goes to the log, not to the caller.
pub fn to_status(error: impl Classify + std::error::Error + 'static) -> Status {
    let kind = error.kind();
    let message = match kind {
        ErrorKind::Internal => "internal error".to_owned(),
        _ => error.to_string(),
    };
    if matches!(kind, ErrorKind::Internal | ErrorKind::Unavailable) {
        let mut causes = Vec::new();
        let mut source = error.source();
        while let Some(cause) = source {
            causes.push(cause.to_string());
            source = cause.source();
        }
        tracing::warn!(error = %error, causes = ?causes, kind = code(kind), "call failed");
    }
    status(kind, message)
}

/// Returns a status of `kind` with a message for the caller.
pub fn status(kind: ErrorKind, message: impl Into<String>) -> Status {
    let (_, name, code, _) = row(kind);
    let mut status = Status::new(code, message);
    status.metadata_mut().insert(KIND, MetadataValue::from_static(name));
    status
}

/// Returns the kind of a status, ours or anybody's.
#[must_use]
pub fn kind_of(status: &Status) -> ErrorKind {
    let named = status.metadata().get(KIND).and_then(|name| name.to_str().ok());
    if let Some(row) = TABLE.iter().find(|row| Some(row.1) == named) {
        return row.0;
    }
    match status.code() {
        Code::InvalidArgument | Code::OutOfRange | Code::FailedPrecondition => ErrorKind::Invalid,
        Code::Unauthenticated => ErrorKind::Unauthenticated,
        Code::PermissionDenied => ErrorKind::Denied,
        Code::NotFound => ErrorKind::NotFound,
        Code::Aborted | Code::AlreadyExists => ErrorKind::Conflict,
        Code::ResourceExhausted => ErrorKind::RateLimited,
        // A cancelled call is most often our own deadline or the other side going away.
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled => ErrorKind::Unavailable,
        // Ours are named: one without a name is of a connection that was lost.
        Code::Unknown | Code::Internal => ErrorKind::Unavailable,
        _ => ErrorKind::Internal,
    }
}

/// Returns what a client may be told of a status: its kind, and its message unless that is internal.
#[must_use]
pub fn told(status: &Status) -> (ErrorKind, String) {
    let kind = kind_of(status);
    let message = match kind {
        ErrorKind::Internal => "internal error",
        _ => status.message(),
    };
    (kind, message.to_owned())
}

/// Returns true if it is known what became of a call that ended in `status`: the peer said so itself,
/// or was never reached. Otherwise the call may have gone on.
#[must_use]
pub fn is_certain(status: &Status) -> bool {
    if status.metadata().contains_key(KIND) {
        return true;
    }
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        let refused = error.downcast_ref::<std::io::Error>();
        if refused.is_some_and(|error| error.kind() == std::io::ErrorKind::ConnectionRefused) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Says beside a status what was spent in vain.
#[must_use]
pub fn with_spent(mut status: Status, spent: NanoUsd) -> Status {
    if spent > NanoUsd::ZERO {
        status.metadata_mut().insert(SPENT, MetadataValue::from(spent.nanos()));
    }
    status
}

/// Returns what was spent on a call that ended in `status`, as far as its peer knows.
#[must_use]
pub fn spent(status: &Status) -> NanoUsd {
    let spent = status.metadata().get(SPENT).and_then(|spent| spent.to_str().ok()?.parse().ok());
    NanoUsd::new(spent.unwrap_or_default())
}

/// Returns an error's body as clients of a dialect read it.
#[must_use]
pub fn body(dialect: Dialect, kind: ErrorKind, message: &str) -> Value {
    let code = code(kind);
    if dialect != Dialect::Messages {
        let class = match kind {
            ErrorKind::Unauthenticated => "authentication_error",
            ErrorKind::Denied => "permission_error",
            ErrorKind::BudgetExceeded => "insufficient_quota",
            ErrorKind::RateLimited => "rate_limit_error",
            ErrorKind::Unavailable | ErrorKind::Internal => "server_error",
            ErrorKind::Invalid | ErrorKind::NotFound | ErrorKind::Conflict => {
                "invalid_request_error"
            }
        };
        let error = json!({ "message": message, "type": class, "param": null, "code": code });
        return json!({ "error": error });
    }
    let class = match kind {
        ErrorKind::Invalid | ErrorKind::Conflict => "invalid_request_error",
        ErrorKind::Unauthenticated => "authentication_error",
        ErrorKind::Denied => "permission_error",
        ErrorKind::NotFound => "not_found_error",
        ErrorKind::BudgetExceeded => "billing_error",
        ErrorKind::RateLimited => "rate_limit_error",
        ErrorKind::Unavailable => "overloaded_error",
        ErrorKind::Internal => "api_error",
    };
    let error = json!({ "type": class, "message": message, "code": code });
    json!({ "type": "error", "error": error })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_survives_the_wire() {
        for (kind, ..) in TABLE {
            assert_eq!(kind_of(&status(kind, "x")), kind);
        }
    }

    #[test]
    fn what_was_spent_in_vain_is_told_beside_the_status() {
        let told = with_spent(status(ErrorKind::Unavailable, "x"), NanoUsd::new(7));
        assert_eq!((spent(&told), kind_of(&told)), (NanoUsd::new(7), ErrorKind::Unavailable));
        assert_eq!(spent(&Status::unknown("x")), NanoUsd::ZERO);
    }

    #[test]
    fn a_foreign_status_has_a_kind() {
        assert_eq!(kind_of(&Status::deadline_exceeded("x")), ErrorKind::Unavailable);
        assert_eq!(kind_of(&Status::unknown("x")), ErrorKind::Unavailable);
        assert_eq!(kind_of(&Status::unimplemented("x")), ErrorKind::Internal);
    }

    #[tokio::test]
    async fn a_call_that_never_left_is_told_from_one_that_was_cut_off() {
        use tokio::io::AsyncReadExt as _;
        use types::{CallContext, TenantId, UserId};

        use crate::transport::remote;

        async fn list(peer: crate::transport::Peer) -> Status {
            let context = CallContext::new(TenantId::new("t").unwrap(), UserId::new("u").unwrap());
            let request =
                crate::context::request(&context, proto::router::ListModelsRequest::default());
            let mut client = proto::router::router_service_client::RouterServiceClient::new(peer);
            client.list_models(request).await.unwrap_err()
        }
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let cut = tokio::spawn(async move {
            let mut stream = listener.accept().await.unwrap().0;
            let _ = stream.read(&mut [0; 64]).await;
        });
        let lost = list(remote(&address).unwrap()).await;
        cut.await.unwrap();
        assert!(!is_certain(&lost), "{lost:?}");
        let refused = list(remote(&address).unwrap()).await;
        assert!(is_certain(&refused), "{refused:?}");
        assert_eq!(kind_of(&refused), ErrorKind::Unavailable, "{refused:?}");
        assert!(is_certain(&status(ErrorKind::Unavailable, "x")));
    }
}

//! `/openapi.json` and `/docs`, both whole without the internet.

use axum::Router;
use serde::Serialize;
use utoipa::PartialSchema as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::response::Response;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityRequirement, SecurityScheme};
use utoipa::openapi::{Components, ContentBuilder, InfoBuilder, OpenApi, Ref, RefOr};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

const ERROR: &str = "Error";
const KEY: &str = "key";

/// Why a request was not answered. Under `/v1/messages` it has Anthropic's shape: `type` is `error` there,
/// and the error has a `type` of theirs.
#[derive(Serialize, utoipa::ToSchema)]
struct ErrorBody {
    error: Fault,
}

/// What is wrong.
#[derive(Serialize, utoipa::ToSchema)]
struct Fault {
    /// For people: it names what is wrong, and where
    message: String,
    /// For programs: the kind of error
    r#type: String,
    /// For programs, where there is one: such as `budget_exceeded`
    code: Option<String>,
}

/// Parts routes from their descriptions, which stand beside the handlers.
pub(crate) fn describe(routes: OpenApiRouter) -> (Router, OpenApi) {
    let (routes, mut document) = routes.split_for_parts();
    document.info = InfoBuilder::new()
        .title("Baton")
        .description(Some("A self-hosted multi-agent RAG orchestrator."))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    let components = document.components.get_or_insert_with(Components::new);
    components.schemas.insert(ERROR.to_owned(), ErrorBody::schema());
    components.schemas.insert("Fault".to_owned(), Fault::schema());
    let scheme = SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    components.add_security_scheme(KEY, scheme);
    for (path, item) in &mut document.paths.paths {
        for operation in operations(item) {
            say_errors(operation);
            if !path.starts_with("/health") && !path.starts_with("/.well-known") {
                let key = SecurityRequirement::new::<_, [String; 0], String>(KEY, []);
                operation.security = Some(vec![key]);
            }
        }
    }
    (routes, document)
}

/// Returns the document's routes.
pub(crate) fn pages(document: OpenApi) -> Router {
    SwaggerUi::new("/docs").url("/openapi.json", document).into()
}

/// Says what every error looks like, those that a handler describes and all others.
fn say_errors(operation: &mut Operation) {
    let other = Response::new("Whatever else is wrong: the message says it");
    let responses = &mut operation.responses.responses;
    responses.entry("default".to_owned()).or_insert_with(|| RefOr::T(other));
    for (status, response) in responses {
        let RefOr::T(response) = response else { continue };
        if (status.starts_with(['4', '5']) || status == "default") && response.content.is_empty() {
            let schema = Ref::from_schema_name(ERROR);
            let content = ContentBuilder::new().schema(Some(schema)).build();
            response.content.insert("application/json".to_owned(), RefOr::T(content));
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
        &mut item.patch,
        &mut item.head,
        &mut item.options,
    ];
    methods.into_iter().flatten()
}

//! `/openapi.json` and `/docs`, both whole without the internet.

use axum::Router;
use utoipa::openapi::{InfoBuilder, OpenApi};
use utoipa_axum::router::OpenApiRouter;
use utoipa_swagger_ui::SwaggerUi;

/// Parts routes from their descriptions, which stand beside the handlers.
pub(crate) fn describe(routes: OpenApiRouter) -> (Router, OpenApi) {
    let (routes, mut document) = routes.split_for_parts();
    document.info = InfoBuilder::new()
        .title("Baton")
        .description(Some("A self-hosted multi-agent RAG orchestrator."))
        .version(env!("CARGO_PKG_VERSION"))
        .build();
    (routes, document)
}

/// Returns the document's routes.
pub(crate) fn pages(document: OpenApi) -> Router {
    SwaggerUi::new("/docs").url("/openapi.json", document).into()
}

//! `/openapi.json` and `/docs`, both whole without the internet.

use axum::Router;
use utoipa::OpenApi as _;
use utoipa_swagger_ui::SwaggerUi;

use crate::routes::{ask, budget, chat, documents, health, search};

/// Every route, described beside its handler.
#[derive(utoipa::OpenApi)]
#[openapi(
    info(title = "Baton", description = "A self-hosted multi-agent RAG orchestrator."),
    paths(
        chat::completions,
        chat::models,
        ask::ask,
        ask::events,
        search::search,
        search::alias,
        documents::put,
        documents::list,
        documents::read,
        documents::delete,
        budget::user,
        budget::set_limit,
        budget::top_spenders,
        health::health,
        health::live,
        health::ready,
        health::startup,
    )
)]
struct Document;

pub(crate) fn router() -> Router {
    SwaggerUi::new("/docs").url("/openapi.json", Document::openapi()).into()
}

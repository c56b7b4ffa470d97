//! The router's real service before one provider, and a client of it.

use proto::budget::Usage;
use proto::router::router_service_client::RouterServiceClient;
use proto::router::stream_complete_response::Event;
use proto::router::{Call, CompleteRequest, Dialect, Receipt, StreamCompleteRequest};
use router::{Config, Extra, Kind, Model, Peers, Provider, Responses};
use runtime::metrics::Metrics;
use runtime::transport::{Peer, in_process};
use tokio::sync::mpsc;
use types::{CallContext, TenantId, UserId};

use crate::budget;

pub(crate) const CLIENTS: [(&str, Dialect); 3] = [
    ("chat", Dialect::ChatCompletions),
    ("messages", Dialect::Messages),
    ("responses", Dialect::Responses),
];

pub(crate) struct Router {
    peer: Peer,
    rows: mpsc::UnboundedReceiver<Usage>,
    _spool: tempfile::TempDir,
}

/// Returns the kind of provider that a directory is named after.
pub(crate) fn kind(name: &str) -> Kind {
    match name {
        "openai" => Kind::Openai,
        "anthropic" => Kind::Anthropic,
        "gemini" => Kind::Gemini,
        name => panic!("{name:?} is no kind"),
    }
}

impl Router {
    /// Starts one whose models are served at `url`; every kind of token has a price of its own.
    pub(crate) async fn start(kind: Kind, url: &str, names: impl Iterator<Item = String>) -> Self {
        let usd = |usd: &str| Some(usd.to_owned());
        let model = |name: String| Model {
            input_usd_per_million: usd("1"),
            cached_input_usd_per_million: usd("0.1"),
            cache_write_usd_per_million: usd("1.25"),
            output_usd_per_million: usd("5"),
            reasoning_usd_per_million: usd("7"),
            extras: Extra::ALL.into(),
            ..Model::free(name)
        };
        let (base_url, models) = (url.to_owned(), names.map(model).collect());
        let provider = Provider {
            kind,
            base_url,
            api_key: None,
            tier: 1,
            batch_discount_percent: None,
            models,
            list_models: false,
        };
        let spool = tempfile::tempdir().unwrap();
        let config = Config {
            providers: [("p".to_owned(), provider)].into(),
            spool: spool.path().to_owned(),
            responses: Responses { store: "".into(), ..Responses::default() },
            ..Config::default()
        };
        let (budget, rows) = budget::start();
        let (server, _) =
            router::server(config, Peers { budget }, &Metrics::default()).await.unwrap();
        Self { peer: in_process(server), rows, _spool: spool }
    }

    /// Asks for a whole answer; the other result is what the client is told instead.
    pub(crate) async fn complete(
        &self,
        dialect: Dialect,
        body: &[u8],
    ) -> Result<(serde_json::Value, Receipt), String> {
        let request = CompleteRequest { call: Some(call(dialect, body)) };
        let mut client = RouterServiceClient::new(self.peer.clone());
        let asked = client.complete(runtime::context::request(&context(), request)).await;
        let answer = asked.map_err(refused)?.into_inner();
        Ok((serde_json::from_slice(&answer.body).unwrap(), answer.receipt.unwrap()))
    }

    /// Asks for a stream and returns all that comes.
    pub(crate) async fn stream(&self, dialect: Dialect, body: &[u8]) -> Result<Vec<Event>, String> {
        let request = StreamCompleteRequest { call: Some(call(dialect, body)) };
        let mut client = RouterServiceClient::new(self.peer.clone());
        let asked = client.stream_complete(runtime::context::request(&context(), request)).await;
        let mut stream = asked.map_err(refused)?.into_inner();
        let mut events = Vec::new();
        while let Some(response) = stream.message().await.unwrap() {
            events.extend(response.event);
        }
        Ok(events)
    }

    /// Returns the next row of usage.
    pub(crate) async fn row(&mut self) -> Usage {
        self.rows.recv().await.unwrap()
    }
}

fn call(dialect: Dialect, body: &[u8]) -> Call {
    Call { body: body.to_vec().into(), groundings: Vec::new(), dialect: dialect.into() }
}

fn context() -> CallContext {
    CallContext::new(TenantId::new("golden").unwrap(), UserId::new("golden").unwrap())
}

fn refused(status: tonic::Status) -> String {
    format!("{:?}: {}", runtime::error::kind_of(&status), status.message())
}

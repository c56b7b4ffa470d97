//! What we do otherwise than LiteLLM, or why we do not.

pub(super) fn hint(field: &str) -> &'static str {
    HINTS.iter().find(|(known, _)| *known == field).map_or(NOTHING, |(_, why)| why)
}

/// What we do otherwise, or why we do not.
const HINTS: [(&str, &str); 45] = [
    ("alerting", METRICS),
    ("allowed_fails", BREAKER),
    ("api_version", "no equivalent: an address has its version in its path"),
    ("budget_duration", LIMITS),
    ("cache", CACHE),
    ("cache_params", CACHE),
    ("callbacks", METRICS),
    ("content_policy_fallbacks", REFUSED),
    ("context_window_fallbacks", REFUSED),
    ("cooldown_time", BREAKER),
    ("credential_list", "secrets are not copied: set each provider's key"),
    ("database_url", "LiteLLM's tables are its own; ours are made where BATON_BUDGET__LEDGER says"),
    ("disable_cooldowns", BREAKER),
    ("drop_params", "no equivalent: what a provider cannot do is translated, or refused"),
    ("enable_pre_call_checks", "no equivalent: a provider says itself what is too long for it"),
    ("environment_variables", "values are not copied: set them where baton runs"),
    ("failure_callback", METRICS),
    ("host", "listen = \"HOST:PORT\" says where HTTP is served"),
    ("include", "other files are not read: import each, and join what comes of it"),
    ("json_logs", "logs are JSON lines wherever they do not go to a terminal"),
    ("litellm_credential_name", "secrets are not copied: set the provider's key"),
    ("master_key", "secrets are not copied: see gateway.keys, each with a secret, tenant and user"),
    ("max_budget", LIMITS),
    ("max_parallel_requests", RATES),
    ("max_retries", RETRIES),
    ("mcp_servers", "describe them in mcp_bridge.servers"),
    ("num_retries", RETRIES),
    ("order", "not a whole number"),
    ("port", "listen = \"HOST:PORT\" says where HTTP is served"),
    ("provider_budget_config", LIMITS),
    ("redis_host", "no equivalent: replicas share the ledger alone"),
    ("redis_password", "no equivalent: replicas share the ledger alone"),
    ("redis_port", "no equivalent: replicas share the ledger alone"),
    ("redis_url", "no equivalent: replicas share the ledger alone"),
    ("request_timeout", TIMEOUTS),
    ("retry_policy", RETRIES),
    ("routing_strategy", ORDER),
    ("rpm", RATES),
    ("service_callbacks", METRICS),
    ("set_verbose", "telemetry.log says which log lines are written"),
    ("stream_timeout", "router.timeouts.first_token_ms is for streams and whole answers alike"),
    ("success_callback", METRICS),
    ("timeout", TIMEOUTS),
    ("tpm", RATES),
    ("weight", "not a number above 0"),
];

const BREAKER: &str = "a circuit breaker is built in: five failures in a row, five seconds";
const CACHE: &str = "not copied: [router.cache] says which answers are given again";
const LIMITS: &str = "limits are set through /api/v1/budget/limit, and kept in the ledger";
const METRICS: &str = "traces go to telemetry.otlp_endpoint, metrics are at the probes' listener";
const ORDER: &str = "no equivalent: candidates are tried in order";

pub(super) const RATES: &str =
    "no equivalent: a provider that is busy is left alone for as long as it asks";

const REFUSED: &str = "what one model refuses, the next candidate of its route is asked";
const RETRIES: &str = "router.retries are the same for every model";
const TIMEOUTS: &str = "router.timeouts are the same for every provider";

pub(super) const NOTHING: &str = "no equivalent";

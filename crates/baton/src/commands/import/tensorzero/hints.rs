//! What we do otherwise than TensorZero, or why we do not.

pub(super) fn hint(field: &str) -> &'static str {
    HINTS.iter().find(|(known, _)| *known == field).map_or(NOTHING, |(_, why)| why)
}

/// What we do otherwise, or why we do not.
const HINTS: [(&str, &str); 37] = [
    ("api_type", "providers are asked for chat completions; clients may speak Responses to any"),
    ("assistant_schema", PROMPTS),
    ("assistant_template", PROMPTS),
    ("auth", "see gateway.keys, each with a secret, tenant and user"),
    ("batch_cost", "no equivalent: there are no batches"),
    ("bind_address", "listen = \"HOST:PORT\" says where HTTP is served"),
    ("clickhouse", LEDGER),
    ("debug", "telemetry.log says which log lines are written"),
    ("export", "traces go to telemetry.otlp_endpoint"),
    ("frequency_penalty", CLIENTS),
    ("input_wrappers", PROMPTS),
    ("json_mode", SCHEMAS),
    ("max_tokens", CLIENTS),
    ("observability", LEDGER),
    ("output_schema", SCHEMAS),
    ("parallel_tool_calls", CLIENTS),
    ("postgres", LEDGER),
    ("presence_penalty", CLIENTS),
    ("provider_types", "no equivalent but for where keys are"),
    ("rate_limiting", "limits of money are set through /api/v1/budget/limit"),
    ("reasoning_effort", CLIENTS),
    ("retries", "router.retries are the same for every model"),
    ("schemas", PROMPTS),
    ("seed", CLIENTS),
    ("service_tier", CLIENTS),
    ("stop_sequences", CLIENTS),
    ("system_schema", PROMPTS),
    ("system_template", PROMPTS),
    ("temperature", CLIENTS),
    ("templates", PROMPTS),
    ("timeout_ms", TIMEOUTS),
    ("timeouts", TIMEOUTS),
    ("tool_choice", CLIENTS),
    ("tools", CLIENTS),
    ("top_p", CLIENTS),
    ("user_schema", PROMPTS),
    ("user_template", PROMPTS),
];

const CLIENTS: &str = "no equivalent: a request says it";
const LEDGER: &str = "no equivalent: money is in the ledger, at budget.ledger";
const PROMPTS: &str = "no equivalent: a request brings its prompts";

pub(super) const SCHEMAS: &str = "no equivalent: a request brings its output schema";

const TIMEOUTS: &str = "router.timeouts are the same for every provider";
const NOTHING: &str = "no equivalent";

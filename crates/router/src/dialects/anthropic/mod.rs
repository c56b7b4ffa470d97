//! Anthropic's Messages API, version 2023-06-01
//! (<https://platform.claude.com/docs/en/api/messages>, read November 2026).

pub(crate) mod events;
pub(crate) mod from_chat;
pub(crate) mod to_chat;

/// How its streams and answers say why they ended, beside how chat completions do.
const ENDS: [(&str, &str); 7] = [
    // Of several that are one in chat, the first is what chat's is told as.
    ("end_turn", "stop"),
    ("max_tokens", "length"),
    ("tool_use", "tool_calls"),
    ("refusal", "content_filter"),
    ("stop_sequence", "stop"),
    ("pause_turn", "stop"),
    ("model_context_window_exceeded", "length"),
];

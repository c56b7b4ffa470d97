//! OpenAI's Responses API (<https://platform.openai.com/docs/api-reference/responses>, read November
//! 2026). Clients only: providers are asked in chat completions. Nothing is stored, so that
//! `previous_response_id` is refused.

pub(crate) mod from_chat;
pub(crate) mod to_chat;

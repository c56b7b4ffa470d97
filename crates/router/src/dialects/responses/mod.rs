//! OpenAI's Responses API (<https://platform.openai.com/docs/api-reference/responses>, read November
//! 2026). Clients only: providers are asked in chat completions.

pub(crate) mod from_chat;
pub(crate) mod items;
pub(crate) mod to_chat;

// Talks to Baton through OpenAI's own SDK for JavaScript. Usage: node openai_sdk.mjs BASE_URL

import assert from "node:assert/strict";
import OpenAI from "openai";

const client = new OpenAI({ baseURL: process.argv[2], apiKey: "none needed here", maxRetries: 0 });
const messages = [{ role: "user", content: "ping" }];

const answer = await client.chat.completions.create({ model: "m", messages });
assert.equal(answer.choices[0].message.content, "pong");
assert.equal(answer.usage.total_tokens, 2000);

let text = "";
const stream = await client.chat.completions.create({ model: "m", messages, stream: true });
for await (const chunk of stream) text += chunk.choices[0]?.delta?.content ?? "";
assert.equal(text, "pong");

const tool = { type: "function", function: { name: "add", parameters: { type: "object" } } };
const called = await client.chat.completions.create({
  model: "m",
  messages: [{ role: "user", content: "tool" }],
  tools: [tool],
});
const [call] = called.choices[0].message.tool_calls;
assert.deepEqual(JSON.parse(call.function.arguments), { a: 1, b: 2 });

let parts = "";
const calling = await client.chat.completions.create({
  model: "m",
  messages: [{ role: "user", content: "tool" }],
  tools: [tool],
  stream: true,
  stream_options: { include_usage: true },
});
let last;
for await (const chunk of calling) {
  for (const part of chunk.choices[0]?.delta?.tool_calls ?? []) parts += part.function.arguments ?? "";
  last = chunk;
}
assert.deepEqual(JSON.parse(parts), { a: 1, b: 2 });
assert.equal(last.usage.total_tokens, 2000);

// Its own helper puts the call together, asks the function, and goes on with what it said.
const conversation = client.chat.completions.stream({
  model: "m",
  messages: [{ role: "user", content: "tool" }],
  tools: [tool],
});
const said = (await conversation.finalChatCompletion()).choices[0].message;
assert.deepEqual(JSON.parse(said.tool_calls[0].function.arguments), { a: 1, b: 2 });
const result = { role: "tool", tool_call_id: said.tool_calls[0].id, content: "3" };
const next = await client.chat.completions.create({
  model: "m",
  messages: [{ role: "user", content: "tool" }, said, result, ...messages],
  tools: [tool],
});
assert.equal(next.choices[0].message.content, "pong");

const response = await client.responses.create({ model: "m", input: "ping" });
assert.equal(response.output_text, "pong");
const kinds = [];
for await (const event of await client.responses.create({ model: "m", input: "ping", stream: true }))
  kinds.push(event.type);
assert.equal(kinds.at(-1), "response.completed");

await assert.rejects(
  client.chat.completions.create({ model: "none", messages }),
  (error) => error.status === 400 && error.message.includes("/model"),
);

const body = { model: "m", messages };
const line = { custom_id: "a", method: "POST", url: "/v1/chat/completions", body };
const upload = await OpenAI.toFile(Buffer.from(JSON.stringify(line)), "requests.jsonl");
const file = await client.files.create({ file: upload, purpose: "batch" });
let batch = await client.batches.create({
  input_file_id: file.id,
  endpoint: line.url,
  completion_window: "24h",
});
const deadline = Date.now() + 60_000;
while (batch.status !== "completed") {
  assert.ok(Date.now() < deadline && batch.status !== "failed", batch.status);
  batch = await client.batches.retrieve(batch.id);
}
const output = await (await client.files.content(batch.output_file_id)).text();
assert.equal(JSON.parse(output).response.body.choices[0].message.content, "pong");

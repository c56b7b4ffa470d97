"""Talks to Baton through OpenAI's own SDK. Usage: openai_sdk.py BASE_URL"""

import json
import sys
import time

import openai

client = openai.OpenAI(base_url=sys.argv[1], api_key="none needed here", max_retries=0)
hello = [{"role": "user", "content": "ping"}]

assert "mock/m" in [model.id for model in client.models.list()]

answer = client.chat.completions.create(model="m", messages=hello)
assert answer.choices[0].message.content == "pong", answer
assert answer.usage.total_tokens == 2000, answer

stream = client.chat.completions.create(model="m", messages=hello, stream=True)
text = "".join(chunk.choices[0].delta.content or "" for chunk in stream)
assert text == "pong", text

options = {"include_usage": True}
stream = client.chat.completions.create(
    model="m", messages=hello, stream=True, stream_options=options
)
*_, last = stream
assert last.usage.total_tokens == 2000, last

tool = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
call = [{"role": "user", "content": "tool"}]
answer = client.chat.completions.create(model="m", messages=call, tools=[tool])
said = answer.choices[0].message
assert answer.choices[0].finish_reason == "tool_calls", answer
assert json.loads(said.tool_calls[0].function.arguments) == {"a": 1, "b": 2}, answer
stream = client.chat.completions.create(model="m", messages=call, tools=[tool], stream=True)
deltas = [chunk.choices[0].delta.tool_calls for chunk in stream if chunk.choices]
parts = [part[0].function.arguments or "" for part in deltas if part]
assert json.loads("".join(parts)) == {"a": 1, "b": 2}, parts

result = {"role": "tool", "tool_call_id": said.tool_calls[0].id, "content": "3"}
history = [*call, said.model_dump(exclude_none=True), result, *hello]
answer = client.chat.completions.create(model="m", messages=history, tools=[tool])
assert answer.choices[0].message.content == "pong", answer

answer = client.responses.create(model="m", input="ping", instructions="Be short.")
assert answer.output_text == "pong" and answer.usage.total_tokens == 2000, answer
with client.responses.stream(model="m", input="ping") as stream:
    kinds = [event.type for event in stream]
    answer = stream.get_final_response()
assert answer.output_text == "pong" and answer.usage.total_tokens == 2000, answer
assert kinds[0] == "response.created" and kinds[-1] == "response.completed", kinds

flat = {"type": "function", "name": "add", "parameters": {"type": "object"}, "strict": False}
answer = client.responses.create(model="m", input="tool", tools=[flat])
[called] = [item for item in answer.output if item.type == "function_call"]
assert json.loads(called.arguments) == {"a": 1, "b": 2}, answer
result = {"type": "function_call_output", "call_id": called.call_id, "output": "3"}
history = [{"role": "user", "content": "tool"}, *answer.output, result]
history.append({"role": "user", "content": "ping"})
answer = client.responses.create(model="m", input=history, tools=[flat])
assert answer.output_text == "pong", answer

# A conversation that the server remembers.
first = client.responses.create(model="m", input="ping", instructions="Be short.")
second = client.responses.create(model="m", input="turns", previous_response_id=first.id)
assert second.output_text == "3 turns" and second.previous_response_id == first.id, second
assert second.id != first.id, second
with client.responses.stream(model="m", input="ping", previous_response_id=second.id) as stream:
    third = stream.get_final_response()
kept = client.responses.retrieve(third.id)
assert kept.output_text == "pong" and kept.usage.total_tokens == 2000, kept
assert kept.previous_response_id == second.id, kept
assert [one.id for one in kept.output] == [one.id for one in third.output], kept
fourth = client.responses.create(model="m", input="turns", previous_response_id=third.id)
assert fourth.output_text == "7 turns", fourth
items = client.responses.input_items.list(second.id)
assert [item.content[0].text for item in items] == ["turns"], items
many = [{"role": "user", "content": str(number)} for number in range(5)]
answer = client.responses.create(model="m", input=many)
for order, wanted in (("asc", "01234"), ("desc", "43210")):
    items = client.responses.input_items.list(answer.id, limit=2, order=order)
    assert "".join(item.content[0].text for item in items) == wanted, items
called = client.responses.create(model="m", input="tool", tools=[flat])
result["call_id"] = next(one.call_id for one in called.output if one.type == "function_call")
follow = [result, {"role": "user", "content": "ping"}]
answer = client.responses.create(
    model="m", input=follow, tools=[flat], previous_response_id=called.id
)
assert answer.output_text == "pong", answer

unkept = client.responses.create(model="m", input="ping", store=False)
client.responses.delete(second.id)
for gone in (unkept.id, second.id, "resp_none"):
    try:
        client.responses.retrieve(gone)
        raise SystemExit("a response that is not kept was found")
    except openai.NotFoundError as error:
        assert gone in error.message, error
try:
    client.responses.create(model="m", input="ping", previous_response_id=third.id)
    raise SystemExit("a conversation without its beginning went on")
except openai.BadRequestError as error:
    assert "/previous_response_id" in error.message and second.id in error.message, error
try:
    client.responses.create(model="m", input="ping", background=True)
    raise SystemExit("a background response was not refused")
except openai.BadRequestError as error:
    assert "/background" in error.message, error

try:
    client.chat.completions.create(model="none", messages=hello)
    raise SystemExit("an unknown model was not refused")
except openai.BadRequestError as error:
    assert "/model" in error.message, error

# A batch: from a file of requests into a file of answers.
bodies = [{"model": "m", "messages": hello}, {"model": "none", "messages": hello}]
lines = [
    {"custom_id": str(index), "method": "POST", "url": "/v1/chat/completions", "body": body}
    for index, body in enumerate(bodies)
]
jsonl = "\n".join(json.dumps(line) for line in lines).encode()
file = client.files.create(file=("requests.jsonl", jsonl), purpose="batch")
assert file.bytes == len(jsonl) and file.status == "processed", file
assert client.files.retrieve(file.id).filename == "requests.jsonl"
assert client.files.content(file.id).read() == jsonl
batch = client.batches.create(
    input_file_id=file.id,
    endpoint="/v1/chat/completions",
    completion_window="24h",
    metadata={"max_cost_usd": "1"},
)
deadline = time.monotonic() + 60
while batch.status != "completed":
    assert time.monotonic() < deadline and batch.status != "failed", batch
    batch = client.batches.retrieve(batch.id)
assert batch.request_counts.total == 2 and batch.request_counts.completed == 1, batch
[answer] = client.files.content(batch.output_file_id).text.splitlines()
answer = json.loads(answer)
assert answer["custom_id"] == "0" and answer["error"] is None, answer
body = openai.types.chat.ChatCompletion.model_validate(answer["response"]["body"])
assert body.choices[0].message.content == "pong", answer
[failure] = client.files.content(batch.error_file_id).text.splitlines()
assert json.loads(failure)["response"]["status_code"] == 400, failure
assert batch.id in [one.id for one in client.batches.list(limit=1)]
assert file.id in [one.id for one in client.files.list(purpose="batch", limit=1)]
assert client.files.delete(file.id).deleted
try:
    client.batches.cancel(batch.id)
    raise SystemExit("a batch that has ended was cancelled")
except openai.ConflictError as error:
    assert "completed" in error.message, error

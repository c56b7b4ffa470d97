"""Talks to Baton through Anthropic's own SDK. Usage: anthropic_sdk.py URL"""

import sys

import anthropic

client = anthropic.Anthropic(base_url=sys.argv[1], api_key="none needed here", max_retries=0)
tools = [
    {
        "name": "add",
        "description": "Adds two numbers",
        "input_schema": {
            "type": "object",
            "properties": {"a": {"type": "number"}, "b": {"type": "number"}},
        },
    }
]


def ask(text, **options):
    turn = {"role": "user", "content": [{"type": "text", "text": text}]}
    return {"model": "m", "max_tokens": 1000, "messages": [turn], "system": "Be short.", **options}


def text_of(message):
    return "".join(block.text for block in message.content if block.type == "text")


answer = client.messages.create(**ask("ping"))
assert text_of(answer) == "pong" and answer.stop_reason == "end_turn", answer
assert answer.usage.output_tokens == 1000, answer
cached = answer.usage.cache_read_input_tokens + answer.usage.cache_creation_input_tokens
assert answer.usage.input_tokens + cached == 1000, answer

question = {name: value for name, value in ask("ping").items() if name != "max_tokens"}
counted = client.messages.count_tokens(**question).input_tokens
assert 5 <= counted <= 30, counted
assert client.messages.count_tokens(**question, tools=tools).input_tokens > counted
try:
    client.messages.count_tokens(**{**question, "messages": []})
    raise SystemExit("a conversation of nothing was counted")
except anthropic.BadRequestError as error:
    assert error.body["error"]["type"] == "invalid_request_error", error
    assert "/messages" in error.body["error"]["message"], error

with client.messages.stream(**ask("ping")) as stream:
    assert "".join(stream.text_stream) == "pong"
    answer = stream.get_final_message()
assert answer.stop_reason == "end_turn" and answer.usage.output_tokens == 1000, answer

for message in (
    client.messages.create(**ask("tool", tools=tools)),
    client.messages.stream(**ask("tool", tools=tools)).__enter__().get_final_message(),
):
    call = next(block for block in message.content if block.type == "tool_use")
    assert message.stop_reason == "tool_use", message
    assert (call.name, call.input) == ("add", {"a": 1, "b": 2}), call

result = {"type": "tool_result", "tool_use_id": call.id, "content": "3"}
history = [
    {"role": "user", "content": "tool"},
    {"role": "assistant", "content": message.content},
    {"role": "user", "content": [result, {"type": "text", "text": "ping"}]},
]
answer = client.messages.create(model="m", max_tokens=10, messages=history, tools=tools)
assert text_of(answer) == "pong", answer

try:
    client.messages.create(**{**ask("ping"), "model": "none"})
    raise SystemExit("an unknown model was not refused")
except anthropic.BadRequestError as error:
    assert error.body["error"]["type"] == "invalid_request_error", error
    assert "/model" in error.body["error"]["message"], error

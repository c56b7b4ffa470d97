"""Talks to Baton through OpenAI's own SDK. Usage: openai_sdk.py BASE_URL"""

import json
import sys

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

try:
    client.chat.completions.create(model="none", messages=hello)
    raise SystemExit("an unknown model was not refused")
except openai.BadRequestError as error:
    assert "/model" in error.message, error

"""Talks to Baton through OpenAI's own SDK. Usage: openai_sdk.py BASE_URL"""

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

try:
    client.chat.completions.create(model="none", messages=hello)
    raise SystemExit("an unknown model was not refused")
except openai.BadRequestError as error:
    assert "/model" in error.message, error

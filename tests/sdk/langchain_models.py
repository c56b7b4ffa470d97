"""Talks to Baton through LangChain's chat models. Usage: langchain_models.py URL"""

import sys

import anthropic
import openai
from langchain_anthropic import ChatAnthropic
from langchain_core.messages import HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI
from pydantic import BaseModel

url = sys.argv[1]
key = "none needed here"


@tool
def add(a: float, b: float) -> str:
    """Adds two numbers"""
    return f"{a + b:g}"


class Pair(BaseModel):
    """Two numbers"""

    a: float
    b: float


# The scripted provider calls this tool whatever it is for; so the schema takes its name.
class Add(Pair):
    """Two numbers to add"""


Add.__name__ = "add"


def openai_model(**options):
    options = {"model": "m", "stream_usage": True, **options}
    return ChatOpenAI(base_url=f"{url}/v1", api_key=key, max_retries=0, **options)


def anthropic_model(**options):
    options = {"model": "m", "max_tokens": 1000, **options}
    return ChatAnthropic(base_url=url, api_key=key, max_retries=0, **options)


def whole(stream):
    chunks = list(stream)
    assert len(chunks) > 1, chunks
    message = chunks[0]
    for chunk in chunks[1:]:
        message += chunk
    return message


def counted(message):
    usage = message.usage_metadata
    assert (usage["input_tokens"], usage["output_tokens"]) == (1000, 1000), message
    assert usage["total_tokens"] == 2000, message


def converses(model):
    conversation = [SystemMessage("Be short."), HumanMessage("ping")]
    for message in (model.invoke(conversation), whole(model.stream(conversation))):
        assert message.text == "pong", message
        counted(message)


def calls(model):
    able = model.bind_tools([add])
    for message in (able.invoke("tool"), whole(able.stream("tool"))):
        [call] = message.tool_calls
        assert (call["name"], call["args"]) == ("add", {"a": 1, "b": 2}), message
        counted(message)
        result = add.invoke(call)
        assert isinstance(result, ToolMessage) and result.content == "3", result
        history = [HumanMessage("tool"), message, result, HumanMessage("ping")]
        assert able.invoke(history).text == "pong"
        assert whole(able.stream(history)).text == "pong"


def structures(model):
    for method in ("function_calling", "json_schema"):
        asked = {"function_calling": "tool", "json_schema": "json"}[method]
        pair = model.with_structured_output(Add, method=method).invoke(asked)
        assert (pair.a, pair.b) == (1, 2), (method, pair)


def refuses(model, kind):
    try:
        model(model="none").invoke("ping")
    except kind as error:
        assert "/model" in str(error), error
    else:
        raise SystemExit("an unknown model was not refused")


for model in (openai_model(), openai_model(use_responses_api=True), anthropic_model()):
    converses(model)
    calls(model)
    structures(model)
refuses(openai_model, openai.BadRequestError)
refuses(anthropic_model, anthropic.BadRequestError)

"""Lists and calls a tool of an MCP server, in every era.

Usage: mcp_client.py URL TOOL ARGUMENTS ANSWER
"""

import asyncio
import json
import sys

from mcp import Client

# What is spoken by default, before 2026-07-28, and since.
MODES = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}


async def main(url: str, tool: str, arguments: str, answer: str) -> None:
    for mode, version in MODES.items():
        async with Client(url, mode=mode) as client:
            assert client.protocol_version == version, (mode, client.protocol_version)
            listed = [each.name for each in (await client.list_tools()).tools]
            assert tool in listed, (mode, listed)
            result = await client.call_tool(tool, json.loads(arguments))
            assert not result.is_error and answer in result.content[0].text, (mode, result)


asyncio.run(main(*sys.argv[1:]))

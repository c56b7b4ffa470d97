"""Lists and calls a tool of an MCP server with the clients of two libraries, in every era.

Usage: mcp_client.py URL TOOL ARGUMENTS ANSWER
"""

import asyncio
import json
import sys

import fastmcp
import mcp

# What is spoken by default, before 2026-07-28, and since.
MODES = {"auto": "2026-07-28", "legacy": "2025-11-25", "2026-07-28": "2026-07-28"}


async def ask(library, mode: str, url: str, tool: str, arguments: dict, answer: str) -> None:
    async with library.Client(url, mode=mode) as client:
        assert client.protocol_version == MODES[mode], client.protocol_version
        listed = await client.list_tools()
        listed = [each.name for each in getattr(listed, "tools", listed)]
        assert tool in listed, listed
        result = await client.call_tool(tool, arguments)
        assert not result.is_error and answer in result.content[0].text, result


async def main(url: str, tool: str, arguments: str, answer: str) -> None:
    for library in (mcp, fastmcp):
        for mode in MODES:
            print(library.__name__, mode)
            await ask(library, mode, url, tool, json.loads(arguments), answer)


asyncio.run(main(*sys.argv[1:]))

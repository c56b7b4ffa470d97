"""An MCP server that does what no server should.

usage: server.py MARK FAULT (modern|older) (program|address)

MARK is there to be found in the list of processes. A modern server speaks 2026-07-28, an older one
2025-11-25; a program speaks over its standard input and output, an address over HTTP, whose port it
writes as its first line. An older address answers calls with a stream of events.
"""

import json
import os
import signal
import socket
import struct
import sys
import threading
import time

FAULT, ERA, WAY = sys.argv[2:5]
MODERN = ERA == "modern"
MIB = 1024 * 1024
# What says more than its answer does so in a stream of events.
TALKATIVE = {"answers-twice", "chatters", "floods"}
listed = 0


def for_ever():
    threading.Event().wait()


def message(**fields):
    return {"jsonrpc": "2.0", **fields}


def answer(asked, result):
    if MODERN:
        result = {**result, "resultType": "complete", "ttlMs": 0, "cacheScope": "private"}
    return message(id=asked["id"], result=result)


def failure(asked, code, text):
    return message(id=asked["id"], error={"code": code, "message": text})


def tool(name, schema={"type": "object"}):
    return {"name": name, "inputSchema": schema}


def tools(asked):
    global listed
    listed += 1
    start = int((asked.get("params") or {}).get("cursor") or 0)
    named = lambda number: tool(f"n{number}" if number else "act")
    match FAULT:
        case "offers-ten-thousand":
            more = {"nextCursor": str(start + 1000)} if start + 1000 < 10_000 else {}
            return {"tools": [named(number) for number in range(start, start + 1000)], **more}
        case "offers-pages-for-ever":
            return {"tools": [named(start)], "nextCursor": str(start + 1)}
        case "offers-nonsense":
            bad = [{"inputSchema": {"type": "object"}}, 7, None, tool("a", "object")]
            bad += [tool("b", {"type": "array"}), tool("c d")]
            return {"tools": bad + [tool("act"), tool("act")]}
        case "changes":
            return {"tools": [tool("act"), tool(f"other{listed}")]}
        case _:
            return {"tools": [tool("act")]}


def called(asked, to):
    done = answer(asked, {"content": [{"type": "text", "text": "done"}]})
    match FAULT:
        case "is-killed":
            os.kill(os.getpid(), signal.SIGKILL)
        case "fails":
            to.say(failure(asked, -32603, "no such luck"))
        case "hangs":
            to.wait()
        case "reads-no-more":
            for_ever()
        case "breaks-off":
            to.write(b'{"jsonrpc":"2.0","result":')
            to.cut()
        case "answers-another":
            to.say({**done, "id": "another"})
        case "answers-twice":
            to.say(done)
            to.say(done)
        case "answers-no-json":
            to.write(b"{ this is none")
            to.end()
        case "answers-a-page":
            to.page()
        case "answers-a-number":
            to.say({**done, "result": 7})
        case "answers-too-deep":
            deep = b"[" * 100_000 + b"]" * 100_000
            to.write(b'{"jsonrpc":"2.0","id":%d,"result":{"x":%s}}' % (asked["id"], deep))
            to.end()
        case "answers-100-mb" | "answers-without-end":
            head = '{"jsonrpc":"2.0","id":%s,"result":{"content":[{"type":"text","text":"'
            to.write((head % json.dumps(asked["id"])).encode())
            sent = 0
            while sent < 100 or FAULT == "answers-without-end":
                to.write(b"x" * MIB)
                sent += 1
            to.write(b'"}]}}')
            to.end()
        case "floods":
            for number in range(20_000):
                params = {"level": "info", "data": f"line {number}"}
                to.say(message(method="notifications/message", params=params))
            to.say(done)
        case "asks-for-ever":
            number = 0
            while True:
                number += 1
                to.say(message(id=number, method="ping"))
        case "chatters":
            to.write(b"Listening ...")
            to.end()
            to.say(done)
        case "closes":
            to.say(done)
            to.close()
        case _:
            to.say(done)


def handle(asked, to):
    if "id" not in asked or "method" not in asked:
        return
    capabilities = {"tools": {"listChanged": FAULT == "changes"}}
    match asked["method"]:
        case "server/discover" if MODERN:
            to.say(answer(asked, {"supportedVersions": ["2026-07-28"], "capabilities": capabilities}))
        case "initialize" if not MODERN:
            named = {"serverInfo": {"name": "bad", "version": "1"}, "capabilities": capabilities}
            to.say(answer(asked, {"protocolVersion": "2025-11-25", **named}))
        case "ping":
            to.say(answer(asked, {}))
        case "tools/list":
            to.say(answer(asked, tools(asked)))
        case "tools/call":
            to.calls = True
            called(asked, to)
        case _:
            to.say(failure(asked, -32601, "what is that"))


def changes(to):
    while True:
        to.say(message(method="notifications/tools/list_changed"))
        time.sleep(0.02)


class Program:
    """What is said on standard output."""

    lock = threading.Lock()

    def write(self, data):
        with self.lock:
            sys.stdout.buffer.write(data)
            sys.stdout.buffer.flush()

    def end(self):
        self.write(b"\n")

    def say(self, one):
        self.write(json.dumps(one).encode() + b"\n")

    def wait(self):
        pass

    def cut(self):
        os._exit(0)

    close = cut


class Address:
    """What is said to one request."""

    def __init__(self, peer):
        self.peer = peer
        self.calls = False
        self.begun = False
        self.open = True

    @property
    def streams(self):
        return self.calls and (not MODERN or FAULT in TALKATIVE)

    def begin(self, status="200 OK", kind=None, length=None):
        self.begun = True
        kind = kind or ("text/event-stream" if self.streams else "application/json")
        head = [f"HTTP/1.1 {status}", f"Content-Type: {kind}", "Mcp-Session-Id: one"]
        if length is None:
            self.open = False
            head.append("Connection: close")
        else:
            head.append(f"Content-Length: {length}")
        self.peer.sendall("\r\n".join(head + ["", ""]).encode())

    def write(self, data):
        if not self.begun:
            self.begin()
            data = (b"data: " if self.streams else b"") + data
        self.peer.sendall(data)

    def end(self):
        if self.streams:
            self.write(b"\n\n")

    def say(self, one):
        text = json.dumps(one).encode()
        if not self.streams:
            self.begin(length=len(text))
            self.write(text)
            return
        if not self.begun:
            self.begin()
        self.peer.sendall(b"data: " + text + b"\n\n")

    def page(self):
        text = b"<h1>Oh no</h1>"
        self.begin("500 Internal Server Error", "text/html", len(text))
        self.write(text)

    def wait(self):
        while self.peer.recv(4096):
            pass

    def cut(self):
        # Without saying goodbye.
        self.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.close()

    def close(self):
        self.open = False


def serve(peer):
    with peer, peer.makefile("rb") as asked:
        kept = True
        while kept and (first := asked.readline()):
            headers = {}
            while (line := asked.readline()).strip():
                name, _, value = line.partition(b":")
                headers[name.lower()] = value.strip()
            body = asked.read(int(headers.get(b"content-length", 0)))
            to = Address(peer)
            match first.split()[0]:
                case b"POST" if "id" in (one := json.loads(body)) and "method" in one:
                    handle(one, to)
                case b"POST":
                    to.begin("202 Accepted", length=0)
                case b"GET" if FAULT == "changes":
                    to.calls = True
                    changes(to)
                case b"GET":
                    to.begin("405 Method Not Allowed", length=0)
                case _:
                    to.begin(length=0)
            kept = to.open


def run_address():
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    if FAULT == "dies-at-start":
        port = listener.getsockname()[1]
        listener.close()
        print(port, flush=True)
        return
    print(listener.getsockname()[1], flush=True)
    if FAULT == "never-reads":
        for_ever()
    while True:
        peer, _ = listener.accept()
        threading.Thread(target=serve, args=(peer,), daemon=True).start()


def log_for_ever():
    while True:
        sys.stderr.write("x" * 65_536)


def run_program():
    to = Program()
    match FAULT:
        case "dies-at-start":
            sys.exit(1)
        case "never-reads":
            for_ever()
        case "speaks-unasked":
            to.say(message(method="notifications/message", params={"level": "info", "data": "here"}))
            to.say(message(id="mine", method="ping"))
        case "answers-unasked":
            to.say(message(id=99, result={}))
        case "logs-for-ever":
            threading.Thread(target=log_for_ever, daemon=True).start()
        case "changes":
            threading.Thread(target=changes, args=(to,), daemon=True).start()
    for line in sys.stdin.buffer:
        handle(json.loads(line), to)


run_program() if WAY == "program" else run_address()

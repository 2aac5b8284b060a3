#!/usr/bin/python3
"""usage: server.py '{"addresses": ["10.88.2.10"], "port": 443, "certificate": "FILE", "key": "FILE"}'

Sends every message back. Prints one line of JSON when it listens and one for
each connection that has ended, see ../server.go.
"""

import asyncio
import hashlib
import json
import ssl
import sys

import websockets


def tell(what):
    print(json.dumps(what), flush=True)


def fault(data):
    """Says what is wrong with what looks like JSON and is none."""
    try:
        if data.startswith(b"{"):
            json.loads(data)
    except ValueError as error:
        return str(error)
    return ""


async def echo(ws, path):
    heard = []
    error = ""
    try:
        async for message in ws:
            data = message.encode() if isinstance(message, str) else message
            heard.append(hashlib.sha256(data).hexdigest())
            await ws.send(message)
            error = error or fault(data)
    except websockets.ConnectionClosed:
        pass
    await ws.wait_closed()
    extensions = ws.response_headers.get("Sec-WebSocket-Extensions", "")
    close = {"code": ws.close_code, "reason": ws.close_reason}
    tell({"path": path, "extensions": extensions, "heard": heard, "close": close, "error": error})


async def main():
    job = json.loads(sys.argv[1])
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(job["certificate"], job["key"])
    async with websockets.serve(echo, job["addresses"], job["port"], ssl=context, ping_interval=None):
        tell({})
        await asyncio.Future()


asyncio.run(main())

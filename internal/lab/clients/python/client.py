#!/usr/bin/python3
"""usage: client.py '{"url": "wss://...", "say": ["..."]}'

Prints one JSON object, see ../job.go. SSL_CERT_FILE names the roots.
"""

import asyncio
import base64
import json
import platform
import sys

import websockets
from websockets.extensions.permessage_deflate import ClientPerMessageDeflateFactory

PATIENCE = 3  # seconds without an answer to one message
BINARY = "base64:"  # what the texts of a job and a report begin with that stand for a binary message
OFFERS = {
    "": {},
    "none": {"compression": None},
    "each": {
        "compression": None,
        "extensions": [ClientPerMessageDeflateFactory(server_no_context_takeover=True, client_no_context_takeover=True)],
    },
}


async def echo(ws, data, expected=None):
    try:
        await ws.send(data)
        return await asyncio.wait_for(ws.recv(), PATIENCE) == (data if expected is None else expected)
    except (asyncio.TimeoutError, websockets.ConnectionClosed):
        return False


async def ping(ws):
    try:
        await asyncio.wait_for(await ws.ping("are you there"), PATIENCE)
        return True
    except (asyncio.TimeoutError, websockets.ConnectionClosed):
        return False


def note(message, report):
    """Adds a message to what was heard. What looks like JSON has to be JSON."""
    if message[:1] in ("{", b"{"):
        try:
            json.loads(message)
        except ValueError as error:
            report["error"] = str(error)
    if isinstance(message, bytes):
        message = BINARY + base64.b64encode(message).decode()
    report["heard"].append(message)


async def burst(ws, texts, report):
    """Sends all texts at once and notes what comes up to the last of them, a
    close or the end of our patience."""
    sending = asyncio.create_task(send_all(ws, texts))
    try:
        while texts[-1] not in report["heard"][-1:]:
            note(await asyncio.wait_for(ws.recv(), PATIENCE), report)
    except (asyncio.TimeoutError, websockets.ConnectionClosed):
        pass
    finally:
        await sending


async def send_all(ws, texts):
    try:
        for text in texts:
            await ws.send(base64.b64decode(text[len(BINARY) :]) if text.startswith(BINARY) else text)
    except websockets.ConnectionClosed:
        pass


async def work(job, report):
    async with websockets.connect(
        job["url"],
        subprotocols=job.get("protocols") or None,
        open_timeout=10,
        ping_interval=None,
        **OFFERS[job.get("offer", "")],
    ) as ws:
        report["protocol"] = ws.subprotocol or ""
        report["extensions"] = ws.response_headers.get("Sec-WebSocket-Extensions", "")
        checks = report["checks"]
        checks["text"] = await echo(ws, "text with \u00fcmlauts, \u4e16\u754c and \U0001f600")
        checks["binary"] = await echo(ws, bytes(range(256)))
        checks["big"] = await echo(ws, b"70 KB " * (70 * 1024 // 6))
        checks["fragmented"] = await echo(ws, ["frag", "men", "ted"], "fragmented")
        checks["ping"] = await ping(ws)
        for text in job.get("say") or []:
            report["said"].append(await echo(ws, text))
        if job.get("burst"):
            await burst(ws, job["burst"], report)
        if job.get("end"):
            await ws.send(job["end"])
            await ws.wait_closed()
        else:
            await ws.close(1000, "done")
        report["close"] = {"code": ws.close_code, "reason": ws.close_reason}


def main():
    report = {
        "client": f"websockets {websockets.__version__} on python {platform.python_version()}",
        "checks": {},
        "said": [],
        "heard": [],
    }
    try:
        asyncio.run(work(json.loads(sys.argv[1]), report))
    except websockets.InvalidStatusCode as error:
        report["status"] = error.status_code
        report["error"] = str(error)
    except (OSError, asyncio.TimeoutError, websockets.WebSocketException) as error:
        report["error"] = f"{type(error).__name__}: {error}"
    print(json.dumps(report))


main()

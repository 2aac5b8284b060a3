"""A WebSocket through the gateway that is held while something happens.

Makes a network on both sides of the machine, a server that echoes in one and a
client in the other. The client prints a line that begins with 1 when its WebSocket
has echoed, and with 2 when after SIGUSR1 the same one and a new one have, too.
"""

import asyncio
import os
import signal
import subprocess
import sys

import websockets

SERVER = "10.90.2.2"


def network():
    for side, net in ("client", "10.90.1"), ("server", "10.90.2"):
        for line in (
            f"netns add {side}",
            f"link add to-{side} type veth peer name edge netns {side}",
            f"addr add {net}.1/24 dev to-{side}",
            f"link set to-{side} up",
            f"-n {side} addr add {net}.2/24 dev edge",
            f"-n {side} link set edge up",
            f"-n {side} route add default via {net}.1",
        ):
            subprocess.run(["ip", *line.split()], check=True)


async def serve():
    async def echo(ws, *_):
        async for message in ws:
            await ws.send(message)

    async with websockets.serve(echo, SERVER, 80):
        await asyncio.Future()


async def echoed(ws, text):
    await ws.send(text)
    assert await ws.recv() == text


async def dial():
    for _ in range(100):  # the server needs a moment
        try:
            return await websockets.connect(f"ws://{SERVER}/")
        except Exception as e:
            last = e
            await asyncio.sleep(0.1)
    raise last


async def hold():
    happened = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, happened.set)
    held = await dial()
    await echoed(held, "before")
    print("1 echoed", flush=True)
    await happened.wait()
    await echoed(held, "after")
    await echoed(await dial(), "new")
    print("2 the same and a new one echoed", flush=True)


match sys.argv[1:]:
    case ["server"]:
        asyncio.run(serve())
    case ["client"]:
        asyncio.run(hold())
    case _:
        network()
        again = [sys.executable, __file__]
        subprocess.Popen(["ip", "netns", "exec", "server", *again, "server"])
        os.execvp("ip", ["ip", "netns", "exec", "client", *again, "client"])

"""Application for the tests of several workers: it answers with the process and its loop."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Any

import runtime

Message = dict[str, Any]


async def app(
    scope: Message,
    receive: Callable[[], Awaitable[Message]],
    send: Callable[[Message], Awaitable[None]],
) -> None:
    """Answer with the process and the class of its loop, slowly, to give other workers a turn."""
    if scope["type"] == "lifespan":
        while True:
            message = await receive()
            await send({"type": f"{message['type']}.complete"})
            if message["type"] == "lifespan.shutdown":
                return
    loop = type(asyncio.get_running_loop())
    time.sleep(0.01)  # the blocked loop accepts no connection meanwhile
    body = f"{os.getpid()} {loop.__module__.partition('.')[0]}".encode()
    headers = [(b"content-length", str(len(body)).encode()), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})


async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Answer as ``app`` does; of the request, only its end is read."""
    await reader.readuntil(b"\r\n\r\n")
    body = f"{os.getpid()} runtime".encode()
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    await writer.drain()
    writer.close()


async def main(port: int) -> None:
    """Serve on ``port``, beside other processes on the same port, until SIGTERM."""
    stop = runtime.Event()
    runtime.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    server = await runtime.start_server(answer, "127.0.0.1", port, reuse_port=True)
    print("ready", flush=True)
    await stop.wait()
    await server.shutdown(timeout=10)


if __name__ == "__main__":
    runtime.run(main(int(sys.argv[1])))

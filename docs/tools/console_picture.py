"""Picture of the console in docs/pictures, of a program that is made for it.

It needs the library ``textual``::

    python docs/tools/console_picture.py docs/pictures/console.svg
"""

from __future__ import annotations

import contextlib
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import runtime
from runtime.observe.console import Console

SHOP = """
import time

import runtime


async def order(lock: runtime.Lock, number: int) -> None:
    while True:
        async with lock:
            await runtime.sleep(0.5)  # the warehouse answers


async def mail() -> None:
    while True:
        await runtime.sleep(0.05)
        time.sleep(0.01)  # a template is rendered


async def serve(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    while data := await reader.read(65536):
        writer.write(data)


async def client(port: int, seconds: float) -> None:
    reader, writer = await runtime.open_connection("127.0.0.1", port)
    while True:
        writer.write(bytes(2000))
        await reader.readexactly(2000)
        await runtime.sleep(seconds)


async def main() -> None:
    server = await runtime.start_server(serve, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    lock = runtime.Lock()
    async with runtime.TaskGroup() as group:
        group.create_task(mail(), name="mail")
        for number in range(6):
            group.create_task(order(lock, number), name=f"order {number}")
        for number in range(3):
            group.create_task(client(port, 0.02), name=f"client {number}")
        print("ready", flush=True)


runtime.run(main())
"""


async def take_picture(pid: int, title: str) -> str:
    """Return a picture of the console, as SVG, after it has observed for some seconds."""
    app = Console(pid, interval=0.25)
    async with app.run_test(size=(118, 30)) as pilot:
        await pilot.pause(6)
        await pilot.press("t")
        await pilot.pause(0.5)
        picture: str = app.export_screenshot(title=title)
        return picture


def main() -> None:
    """Write the picture to the file that the command line names."""
    with tempfile.TemporaryDirectory() as folder:
        program = Path(folder, "shop.py")
        program.write_text(SHOP)
        process = subprocess.Popen(
            [sys.executable, str(program)],
            stdout=subprocess.PIPE,
            env={**os.environ, "RUNTIME_OBSERVE": "1"},
        )
        assert process.stdout is not None
        with process, contextlib.closing(process.stdout):
            try:
                process.stdout.readline()
                picture = runtime.run(take_picture(process.pid, "python -m runtime top"))
            finally:
                process.kill()
    # The picture must not refer to fonts on another server.
    picture = re.sub(r"@font-face \{.*?\}\n?", "", picture, flags=re.DOTALL)
    Path(sys.argv[1]).write_text(picture)


if __name__ == "__main__":
    main()

"""An echo server: it sends all received bytes back to the client.

Run it, and talk to it with ``nc 127.0.0.1 8888``; Ctrl-C ends it::

    python docs/examples/echo_server.py --port 8888
"""

from __future__ import annotations

import argparse
import contextlib
import sys

import runtime


async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Serve a client until it ends its stream."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client has disconnected: no answer is possible
    finally:
        writer.close()


async def serve(host: str, port: int, until_stdin_closes: bool) -> None:
    """Print the address of the server, and serve."""
    server = await runtime.start_server(echo, host, port, backlog=1024)
    async with server:
        address = server.sockets[0].getsockname()
        print(f"echo server on {address[0]}:{address[1]}", flush=True)
        if until_stdin_closes:
            await runtime.wait_readable(sys.stdin.fileno())
        else:
            await server.serve_forever()


def main() -> None:
    """Parse the command line, and serve until interrupted."""
    parser = argparse.ArgumentParser(description="An echo server.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    parser.add_argument(
        "--until-stdin-closes", action="store_true", help="end with the process that started it"
    )
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        runtime.run(serve(arguments.host, arguments.port, arguments.until_stdin_closes))


if __name__ == "__main__":
    main()

r"""An echo server over TLS, and a client for it.

The server needs a file with its private key and the chain of its certificate, in PEM form; the
client one with the certificate of the authority to trust. For a trial, one certificate that signs
itself is both::

    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout key.pem -out trust.pem
    cat key.pem trust.pem > server.pem

Ctrl-C ends the server, after at most ten seconds for the clients that it has. The client sends what
it reads from stdin, and writes what comes back to stdout::

    python docs/examples/tls_echo.py serve --certificate server.pem --port 8443
    echo hello | python docs/examples/tls_echo.py talk --trust trust.pem localhost 8443
"""

from __future__ import annotations

import argparse
import contextlib
import ssl
import sys

import runtime

PATIENCE = 10.0
"""Seconds that clients have to finish when the server ends."""


async def echo(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Serve one client until it closes its end."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client went away without a goodbye: there is nobody left to answer
    finally:
        writer.close()


async def serve(certificate: str, host: str, port: int) -> None:
    """Say on stdout where the server listens, and serve until cancelled."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate)
    server = await runtime.start_server(echo, host, port, ssl=context)
    try:
        address = server.sockets[0].getsockname()
        print(f"TLS echo server on {address[0]}:{address[1]}", flush=True)
        await runtime.Event().wait()
    finally:
        await server.shutdown(PATIENCE)


async def talk(trust: str, host: str, port: int, name: str | None) -> None:
    """Send stdin, and write to stdout what comes back of it."""
    context = ssl.create_default_context(cafile=trust)
    reader, writer = await runtime.open_connection(
        host, port, ssl=context, server_hostname=name or host
    )
    try:
        message = await runtime.to_thread(sys.stdin.buffer.read)

        async def send() -> None:
            writer.write(message)
            await writer.drain()

        # Both at once: a server that echoes stops reading when nobody takes its echo.
        async with runtime.TaskGroup() as group:
            group.create_task(send())
            reply = group.create_task(reader.readexactly(len(message)))
        sys.stdout.buffer.write(reply.result())
    finally:
        writer.close()
    await writer.wait_closed()


def main() -> int:
    """Read the command line, and be one of the two; return the exit status."""
    parser = argparse.ArgumentParser(description="An echo server over TLS, and its client.")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="run the server, until Ctrl-C")
    server.add_argument("--certificate", required=True, metavar="FILE")
    server.add_argument("--host", default="127.0.0.1")
    server.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    client = commands.add_parser("talk", help="send stdin to a server")
    client.add_argument("--trust", required=True, metavar="FILE")
    client.add_argument("--name", help="what the certificate must be for; by default HOST")
    client.add_argument("host")
    client.add_argument("port", type=int)
    options = parser.parse_args()
    if options.command == "serve":
        with contextlib.suppress(KeyboardInterrupt):
            runtime.run(serve(options.certificate, options.host, options.port))
        return 0
    status = 0
    try:
        runtime.run(talk(options.trust, options.host, options.port, options.name))
    except* (OSError, EOFError) as group:
        status = 1
        for error in group.exceptions:
            print(f"{options.host}:{options.port}: {error}", file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())

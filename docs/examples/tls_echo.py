r"""An echo server over TLS, and a client for it.

The server needs a file with its private key and its certificate chain, in PEM form. The client
needs a file with the certificate of a trusted authority. For a trial, a self-signed certificate can
be used for both::

    openssl req -x509 -newkey rsa:2048 -nodes -days 30 -subj /CN=localhost \
        -addext subjectAltName=DNS:localhost -keyout key.pem -out trust.pem
    cat key.pem trust.pem > server.pem

Ctrl-C ends the server; its clients have at most ten seconds to finish. The client sends its stdin,
and writes the answer to stdout::

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
    """Serve a client until it ends its stream."""
    try:
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client has disconnected: no answer is possible
    finally:
        writer.close()


async def serve(certificate: str, host: str, port: int) -> None:
    """Print the address of the server, and serve until cancelled."""
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
    """Send stdin to the server, and write its answer to stdout."""
    context = ssl.create_default_context(cafile=trust)
    reader, writer = await runtime.open_connection(
        host, port, ssl=context, server_hostname=name or host
    )
    try:
        message = await runtime.to_thread(sys.stdin.buffer.read)

        async def send() -> None:
            writer.write(message)
            await writer.drain()

        # Send and receive concurrently: the server stops reading if its echo is not read.
        async with runtime.TaskGroup() as group:
            group.create_task(send())
            reply = group.create_task(reader.readexactly(len(message)))
        sys.stdout.buffer.write(reply.result())
    finally:
        writer.close()
    await writer.wait_closed()


def main() -> int:
    """Parse the command line, run the server or the client; return the exit status."""
    parser = argparse.ArgumentParser(description="An echo server over TLS, and its client.")
    commands = parser.add_subparsers(dest="command", required=True)
    server = commands.add_parser("serve", help="run the server, until Ctrl-C")
    server.add_argument("--certificate", required=True, metavar="FILE")
    server.add_argument("--host", default="127.0.0.1")
    server.add_argument("--port", type=int, default=0, help="0, the default, takes a free one")
    client = commands.add_parser("talk", help="send stdin to a server")
    client.add_argument("--trust", required=True, metavar="FILE")
    client.add_argument("--name", help="name in the certificate, by default HOST")
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

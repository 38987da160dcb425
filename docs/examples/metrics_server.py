"""A server with metrics for Prometheus, and a scrape of them.

Without ``--port`` the program scrapes itself once, and prints the answer. It needs the library
``prometheus_client``::

    python docs/examples/metrics_server.py --port 9100 &
    curl http://127.0.0.1:9100/metrics
"""

from __future__ import annotations

import argparse
import contextlib

import runtime
import runtime.observe


async def answer(reader: runtime.StreamReader, writer: runtime.StreamWriter) -> None:
    """Answer one HTTP request with the metrics."""
    import prometheus_client  # here, so that --help works without it

    try:
        await reader.readuntil(b"\r\n\r\n")
        body = prometheus_client.generate_latest()
        head = (
            "HTTP/1.1 200 OK\r\n"
            f"Content-Type: {prometheus_client.CONTENT_TYPE_LATEST}\r\n"
            f"Content-Length: {len(body)}\r\n"
            "Connection: close\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
    except (ConnectionError, runtime.IncompleteReadError):
        pass  # the client has disconnected: no answer is possible
    finally:
        writer.close()


async def scrape(port: int) -> str:
    """Return the metrics of the server at a port, as Prometheus gets them."""
    reader, writer = await runtime.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
    text = (await reader.read()).decode()
    writer.close()
    await writer.wait_closed()
    return text.partition("\r\n\r\n")[2]


async def serve(port: int | None) -> None:
    """Serve the metrics of this loop."""
    import prometheus_client

    collector = runtime.observe.export_to_prometheus()
    server = await runtime.start_server(answer, "127.0.0.1", port or 0)
    async with server:
        address = server.sockets[0].getsockname()
        if port is None:
            print(await scrape(address[1]), end="")
        else:
            print(f"http://{address[0]}:{address[1]}/metrics", flush=True)
            await server.serve_forever()
    prometheus_client.REGISTRY.unregister(collector)


def main() -> None:
    """Parse the command line, and serve until interrupted."""
    parser = argparse.ArgumentParser(description="A server with metrics for Prometheus.")
    parser.add_argument("--port", type=int, help="the port; without it, scrape once and end")
    arguments = parser.parse_args()
    with contextlib.suppress(KeyboardInterrupt):
        runtime.run(serve(arguments.port))


if __name__ == "__main__":
    main()

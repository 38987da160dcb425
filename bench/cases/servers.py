"""The servers under load, by name."""

from __future__ import annotations

from bench.cases.serving import Start
from bench.cases.streams import lines, streams, tls
from bench.cases.transports import buffered, datagrams, protocol, sockets

SERVERS: dict[str, Start] = {
    "streams": streams,
    "lines": lines,
    "tls": tls,
    "protocol": protocol,
    "buffered": buffered,
    "datagrams": datagrams,
    "sockets": sockets,
}

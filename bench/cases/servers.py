"""Servers for the load cases, by name."""

from __future__ import annotations

from bench.cases.http import aiohttp, uvicorn_h11, uvicorn_httptools
from bench.cases.mixed import computing, mixed, sleepers
from bench.cases.serving import Start
from bench.cases.streams import lines, streams, tls, unix, watched
from bench.cases.transports import buffered, datagrams, protocol, sockets

SERVERS: dict[str, Start] = {
    "streams": streams,
    "lines": lines,
    "tls": tls,
    "unix": unix,
    "watched": watched,
    "computing": computing,
    "sleepers": sleepers,
    "mixed": mixed,
    "protocol": protocol,
    "buffered": buffered,
    "datagrams": datagrams,
    "sockets": sockets,
    "aiohttp": aiohttp,
    "uvicorn_h11": uvicorn_h11,
    "uvicorn_httptools": uvicorn_httptools,
}

"""The results of reads do not depend on how the bytes are split on their way."""

from __future__ import annotations

import socket

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import runtime
from tests.net.tools import stream_pair
from tests.support.blocked import all_tasks_blocked
from tests.support.examples import examples

READS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), st.just(0)),
        st.tuples(st.just("exactly"), st.integers(min_value=0, max_value=30)),
        st.tuples(st.just("until"), st.sampled_from([0, 1])),
    ),
    max_size=12,
)
SEPARATORS = (b"\r\n", b"ab")


async def perform(reader: runtime.StreamReader, reads: list[tuple[str, int]]) -> list[bytes]:
    results = []
    for kind, argument in reads:
        try:
            if kind == "line":
                results.append(await reader.readline())
            elif kind == "exactly":
                results.append(await reader.readexactly(argument))
            else:
                results.append(await reader.readuntil(SEPARATORS[argument]))
        except runtime.IncompleteReadError as error:
            results.append(b"partial " + error.partial)
    results.append(await reader.read())
    return results


def expected(data: bytes, reads: list[tuple[str, int]]) -> list[bytes]:
    results = []
    for kind, argument in reads:
        if kind == "exactly":
            whole = len(data) >= argument
            end = argument if whole else len(data)
        else:
            separator = b"\n" if kind == "line" else SEPARATORS[argument]
            found = data.find(separator)
            whole = found >= 0 or kind == "line"
            end = found + len(separator) if found >= 0 else len(data)
        results.append(data[:end] if whole else b"partial " + data[:end])
        data = data[end:]
    results.append(data)
    return results


@settings(deadline=None, max_examples=examples(100), suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(st.text("ab\r\n", min_size=1, max_size=12), max_size=10), READS)
def test_any_split_gives_the_same_reads(parts: list[str], reads: list[tuple[str, int]]) -> None:
    pieces = [part.encode() for part in parts]

    async def main() -> list[bytes]:
        async with stream_pair() as (reader, _, peer):
            task = runtime.create_task(perform(reader, reads))
            for piece in pieces:
                peer.sendall(piece)
                # Let the loop receive this piece alone.
                await all_tasks_blocked()
            peer.shutdown(socket.SHUT_WR)
            return await task

    assert runtime.run(main()) == expected(b"".join(pieces), reads)

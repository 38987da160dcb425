"""The receive buffer, compared with a plain ``bytes`` object."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.net.connection.receive_buffer import ReceiveBuffer, find_first

PARTS = st.lists(
    st.tuples(st.integers(min_value=0, max_value=4096), st.text("abc", min_size=1, max_size=6)),
    max_size=10,
)
"""Chunks of padding with a few letters at the end."""
SEPARATORS = st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=4)

CHUNKS = st.lists(st.binary(min_size=1, max_size=6000), max_size=12)


def first_in(data: bytes, separators: tuple[bytes, ...]) -> tuple[int, int]:
    """Return the expected result of ``ReceiveBuffer.find``."""
    found = [(data.find(each) + len(each), each) for each in separators if each in data]
    if not found:
        return -1, 0
    stop = min(end for end, _ in found)
    separator = next(each for end, each in found if end == stop)
    return stop - len(separator), stop


def filled(chunks: list[bytes]) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


@given(CHUNKS, st.lists(st.integers(min_value=1, max_value=9000), max_size=20))
def test_takes_of_any_size_return_the_bytes_in_order(chunks: list[bytes], sizes: list[int]) -> None:
    buffer = filled(chunks)
    model = b"".join(chunks)
    for size in sizes:
        assert buffer.take(size) == model[:size]
        model = model[size:]
        assert buffer.size == len(model)
    assert buffer.take_all() == model
    assert buffer.size == 0
    assert buffer.take_all() == b""


@given(
    st.lists(
        st.one_of(
            st.binary(min_size=1, max_size=3000),
            st.integers(min_value=1, max_value=4000),
        ),
        max_size=40,
    )
)
def test_appends_and_takes_in_any_order(operations: list[bytes | int]) -> None:
    buffer = ReceiveBuffer()
    model = b""
    for operation in operations:
        if isinstance(operation, bytes):
            buffer.append(operation)
            model += operation
        else:
            assert buffer.take(operation) == model[:operation]
            model = model[operation:]
    assert buffer.take_all() == model


@given(
    st.lists(st.text("ab\r\n", min_size=1, max_size=8), max_size=8),
    st.sampled_from([b"\n", b"\r\n", b"aab", b"abab"]),
    st.integers(min_value=0, max_value=20),
)
def test_find_sees_separators_across_chunks(texts: list[str], separator: bytes, taken: int) -> None:
    # Chunks of 4 KiB are not joined; the letters are at their ends.
    chunks = [b"x" * 4096 + text.encode() for text in texts]
    buffer = filled(chunks)
    model = b"".join(chunks)
    buffer.take(taken)
    model = model[taken:] if taken else model
    assert buffer.find((separator,)) == first_in(model, (separator,))


@given(
    PARTS,
    SEPARATORS,
    SEPARATORS,
    st.lists(st.integers(min_value=0, max_value=9000), min_size=10, max_size=10),
)
def test_a_search_continues_where_the_last_one_stopped(
    parts: list[tuple[int, str]], separators: list[str], others: list[str], takes: list[int]
) -> None:
    """Bytes are appended and taken, and different separators are searched alternately."""
    buffer = ReceiveBuffer()
    model = b""
    sought = (tuple(map(str.encode, separators)), tuple(map(str.encode, others)))
    for number, ((padding, letters), taken) in enumerate(zip(parts, takes, strict=False)):
        data = b"x" * padding + letters.encode()
        buffer.append(data)
        model += data
        for each in (sought[number % 3 == 0], sought[0]):
            assert buffer.find(each) == first_in(model, each)
        if number % 2:
            buffer.take(taken)
            model = model[taken:]


@given(st.text("abx", max_size=3000), SEPARATORS, st.integers(min_value=0, max_value=3000))
def test_find_first_is_the_first_to_end(text: str, separators: list[str], start: int) -> None:
    data = text.encode()
    sought = tuple(map(str.encode, separators))
    begin, stop = first_in(data[start:], sought)
    expected = (start + begin, start + stop) if stop else (-1, 0)
    assert find_first(data, sought, start, max(map(len, sought))) == expected


def test_a_chunk_that_answers_one_read_is_not_copied() -> None:
    chunk = b"z" * 5000
    assert filled([chunk]).take(5000) is chunk


def test_single_bytes_are_joined() -> None:
    buffer = filled([b"a"] * 100_000)
    # Separate chunks would be one object of 34 bytes for each byte.
    assert buffer._rest is not None
    assert len(buffer._rest) < 10
    assert buffer.take_all() == b"a" * 100_000
    assert buffer._rest is None

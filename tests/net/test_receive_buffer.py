"""The receive buffer, against plain bytes."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from runtime.net.receive_buffer import ReceiveBuffer

CHUNKS = st.lists(st.binary(min_size=1, max_size=6000), max_size=12)


def filled(chunks: list[bytes]) -> ReceiveBuffer:
    buffer = ReceiveBuffer()
    for chunk in chunks:
        buffer.append(chunk)
    return buffer


@given(CHUNKS, st.lists(st.integers(min_value=1, max_value=9000), max_size=20))
def test_takes_give_the_bytes_in_order_whatever_their_sizes(
    chunks: list[bytes], sizes: list[int]
) -> None:
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
    # Chunks of 4 KiB are kept apart; the letters are at their ends.
    chunks = [b"x" * 4096 + text.encode() for text in texts]
    buffer = filled(chunks)
    model = b"".join(chunks)
    buffer.take(taken)
    model = model[taken:] if taken else model
    assert buffer.find(separator, 0) == model.find(separator)


def test_find_skips_what_was_scanned_but_not_the_seam() -> None:
    buffer = filled([b"y" * 5000 + b"\r", b"\n" + b"y" * 5000])
    assert buffer.find(b"\r\n", 5001) == 5000
    assert buffer.find(b"\r\n", 0) == 5000
    buffer.take(5002)
    assert buffer.find(b"\r\n", 0) == -1


def test_a_chunk_that_answers_one_read_is_not_copied() -> None:
    chunk = b"z" * 5000
    assert filled([chunk]).take(5000) is chunk


def test_single_bytes_are_gathered() -> None:
    buffer = filled([b"a"] * 100_000)
    # Apart they would be as many objects, of 34 bytes each.
    assert buffer._rest is not None
    assert len(buffer._rest) < 10
    assert buffer.take_all() == b"a" * 100_000
    assert buffer._rest is None
